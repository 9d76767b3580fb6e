"""MQTT 3.1.1 and Azure IoT Hub's dialect of it, the server's side: packets, sessions, topics, tokens.

Bytes and values in, bytes and values out: no socket, no clock, no thread. A hub moves the bytes and answers the questions.
"""
