// Run by Node with an unmodified azure-iothub: its arguments are that package's folder and a connection string.
// It knows nothing of Farshore, and uses the SDK's public API alone.

const assert = require('assert');

const { Registry, Client } = require(process.argv[2]);
const string = process.argv[3];
const registry = Registry.fromConnectionString(string);

async function refused(name, call) {
  await assert.rejects(call, (error) => {
    assert.strictEqual(error.name, name, `${error.name}: ${error.message}`);
    return true;
  });
}

async function identities() {
  const made = (await registry.create({ deviceId: 'n1', status: 'enabled' })).responseBody;
  assert.ok(made.authentication.symmetricKey.primaryKey);
  await refused('DeviceAlreadyExistsError', () => registry.create({ deviceId: 'n1' }));
  await refused('DeviceNotFoundError', () => registry.get('absent'));
  const module = (await registry.addModule({ deviceId: 'n1', moduleId: 'm1' })).responseBody;
  assert.strictEqual(module.moduleId, 'm1');
  assert.strictEqual((await registry.getRegistryStatistics()).responseBody.totalDeviceCount, 1);
}

async function twins() {
  const twin = (await registry.getTwin('n1')).responseBody;
  const change = { tags: { site: 'oslo' }, properties: { desired: { a: { b: 1 } } } };
  const changed = (await registry.updateTwin('n1', change, twin.etag)).responseBody;
  assert.strictEqual(changed.properties.desired.a.b, 1);
  await refused('InvalidEtagError', () => registry.updateTwin('n1', { tags: {} }, twin.etag));
  const wanted = { properties: { desired: { x: 1 } } };
  const module = (await registry.updateModuleTwin('n1', 'm1', wanted, '*')).responseBody;
  assert.strictEqual(module.properties.desired.x, 1);
  const query = registry.createQuery("SELECT * FROM devices WHERE tags.site = 'oslo'", 10);
  const rows = (await query.nextAsTwin()).result;
  assert.deepStrictEqual(rows.map((row) => row.deviceId), ['n1']);
  const call = { methodName: 'reboot', payload: {}, responseTimeoutInSeconds: 5 };
  await assert.rejects(() => Client.fromConnectionString(string).invokeDeviceMethod('n1', call));
}

async function configurations() {
  const content = { deviceContent: { 'properties.desired.net': { mtu: 9 } } };
  const wanted = { id: 'c1', schemaVersion: '1.0', content, targetCondition: "tags.site='oslo'", priority: 1 };
  const made = (await registry.addConfiguration(wanted)).responseBody;
  assert.strictEqual((await registry.getTwin('n1')).responseBody.properties.desired.net.mtu, 9);
  made.priority = 3;
  assert.strictEqual((await registry.updateConfiguration(made, true)).responseBody.priority, 3);
  assert.strictEqual((await registry.getConfigurations()).responseBody.length, 1);
  await registry.removeConfiguration('c1'); // without If-Match
  const edge = { modulesContent: { m1: { 'properties.desired.y': 2 } } };
  await registry.applyConfigurationContentOnDevice('n1', edge);
  const module = (await registry.getModuleTwin('n1', 'm1')).responseBody;
  assert.deepStrictEqual([module.properties.desired.x, module.properties.desired.y], [1, 2]);
}

async function ends() {
  await registry.removeModule('n1', 'm1');
  await registry.delete('n1');
  await refused('DeviceNotFoundError', () => registry.get('n1'));
}

identities().then(twins).then(configurations).then(ends).catch((error) => {
  console.error(error);
  process.exit(1);
});
