"""Run by the environment of an unmodified azure-iot-device: does what it is asked by lines of JSON, and tells what it hears.

It imports nothing of Farshore, and uses the SDK's public API alone.
"""

import json
import sys
import threading
from pathlib import Path

from azure.iot.device import (
    X509,
    IoTHubDeviceClient,
    IoTHubModuleClient,
    Message,
    MethodResponse,
    ProvisioningDeviceClient,
)

LOCK = threading.Lock()


def say(**what):
    with LOCK:
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()


class Driver:
    client = None

    def create(
        self,
        connection_string=None,
        ca=None,
        module=False,
        host=None,
        device=None,
        certificate=None,
        key=None,
        edge=False,
        **options,
    ):
        kind = IoTHubModuleClient if module else IoTHubDeviceClient
        if ca:
            options["server_verification_cert"] = Path(ca).read_text()
        if edge:
            options.pop("server_verification_cert", None)
            self.client = IoTHubModuleClient.create_from_edge_environment(**options)
        elif certificate:
            x509 = X509(cert_file=certificate, key_file=key)
            self.client = kind.create_from_x509_certificate(x509=x509, hostname=host, device_id=device, **options)
        else:
            self.client = kind.create_from_connection_string(connection_string, **options)
        self.client.on_connection_state_change = lambda: say(event="connected", value=self.client.connected)
        self.client.on_background_exception = lambda error: say(
            event="exception", value=repr(error), cause=repr(error.__cause__)
        )

    def connect(self):
        self.client.connect()

    def disconnect(self):
        self.client.disconnect()

    def listen(self):
        self.client.on_twin_desired_properties_patch_received = lambda patch: say(event="patch", value=patch)

    def methods(self, status=200):
        def answer(request):
            say(event="method", name=request.name, payload=request.payload)
            self.client.send_method_response(
                MethodResponse.create_from_method_request(request, status, {"echo": request.payload})
            )

        self.client.on_method_request_received = answer

    def messages(self):
        def heard(message):
            say(
                event="message",
                data=message.data.decode(),
                input=getattr(message, "input_name", None),
                properties=message.custom_properties,
                id=message.message_id,
            )

        self.client.on_message_received = heard

    def get_twin(self):
        return self.client.get_twin()

    def report(self, change):
        self.client.patch_twin_reported_properties(change)

    def send(self, data, output=None, mid=None, **properties):
        message = Message(data, message_id=mid) if mid else Message(data)
        message.custom_properties.update(properties)
        if output:
            self.client.send_message_to_output(message, output)
        else:
            self.client.send_message(message)

    def provision(self, host, scope, registration, key, ca):
        client = ProvisioningDeviceClient.create_from_symmetric_key(
            host, registration, scope, key, server_verification_cert=Path(ca).read_text()
        )
        found = client.register()
        return {
            "status": found.status,
            "hub": found.registration_state.assigned_hub,
            "device": found.registration_state.device_id,
        }

    def shutdown(self):
        self.client.shutdown()


def work(driver, asked):
    try:
        say(id=asked["id"], value=getattr(driver, asked["do"])(**asked.get("with", {})))
    except BaseException as error:  # noqa: BLE001 - whatever the SDK raises is told
        say(id=asked["id"], error=type(error).__name__, text=str(error), cause=repr(error.__cause__))


def main():
    driver = Driver()
    for line in sys.stdin:  # each in a thread of its own: some calls only end when the connection is back
        threading.Thread(target=work, args=(driver, json.loads(line)), daemon=True).start()


main()
