// Run by Node with an unmodified azure-iot-device: does what it is asked by lines of JSON, and tells what it hears, as
// driver.py does. Its argument is the folder of packages.
// It knows nothing of Farshore, and uses the SDK's public API alone.

const fs = require('fs');
const path = require('path');
const readline = require('readline');

const load = (name) => require(path.join(process.argv[2], name));
const { Client, ModuleClient, Message } = load('azure-iot-device');
const { Mqtt, MqttWs } = load('azure-iot-device-mqtt');

const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
let client;
let twin;
let isModule;

const complain = (error) => say({ event: 'exception', value: String(error) });
const plain = (properties) => JSON.parse(JSON.stringify(properties)); // without the SDK's own functions

const driver = {
  async create({ connection_string, ca, module = false, websockets = false, edge = false, ...options }) {
    const transport = websockets ? MqttWs : Mqtt;
    isModule = module || edge;
    if (edge) client = await ModuleClient.fromEnvironment(transport);
    else client = (module ? ModuleClient : Client).fromConnectionString(connection_string, transport);
    client.on('error', complain);
    client.on('disconnect', () => say({ event: 'connected', value: false }));
    if (ca) options.ca = fs.readFileSync(ca, 'utf8');
    if (!edge) await client.setOptions(options); // it would take away whom the environment says to trust
  },

  async connect() {
    await client.open();
  },

  async get_twin() {
    twin = await client.getTwin(); // the SDK keeps one twin and reads it again
    await twin.get();
    return plain({ desired: twin.properties.desired, reported: twin.properties.reported });
  },

  async listen() {
    twin = await client.getTwin();
    twin.on('properties.desired', (value) => say({ event: 'patch', value }));
    await twin.get(); // it is sent after the subscription, of whose end the SDK tells nothing
  },

  report({ change }) {
    return new Promise((resolve, reject) => {
      twin.properties.reported.update(change, (error) => (error ? reject(error) : resolve()));
    });
  },

  async methods({ status = 200 }) {
    const answer = (request, response) => {
      say({ event: 'method', name: request.methodName, payload: request.payload });
      response.send(status, { echo: request.payload }).catch(complain);
    };
    if (isModule) client.onMethod('echo', answer);
    else client.onDeviceMethod('echo', answer);
  },

  async messages() {
    const heard = (message, input = null) => {
      const properties = Object.fromEntries(message.properties.propertyList.map(({ key, value }) => [key, value]));
      say({ event: 'message', data: message.getData().toString(), input, properties, id: message.messageId });
      client.complete(message).catch(complain);
    };
    if (isModule) client.on('inputMessage', (input, message) => heard(message, input));
    else client.on('message', (message) => heard(message));
  },

  async send({ data, output, mid, ...properties }) {
    const message = new Message(data);
    if (mid) message.messageId = mid;
    Object.entries(properties).forEach(([key, value]) => message.properties.add(key, value));
    await (output ? client.sendOutputEvent(output, message) : client.sendEvent(message));
  },
};

readline.createInterface({ input: process.stdin }).on('line', async (line) => {
  const asked = JSON.parse(line);
  try {
    say({ id: asked.id, value: await driver[asked.do](asked.with) });
  } catch (error) {
    say({ id: asked.id, error: error.name, text: error.message, cause: String(error.innerError) });
  }
});
