"""IoT Hub's face: devices, modules and services that speak Azure IoT Hub's dialect find the same registry, twins and deployments."""
