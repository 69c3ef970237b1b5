// Loaded before the suite's server: it listens on loopback only, on the port it is told (0: any), and keeps
// connections open longer than a pool uses them, so that no test fails by a race.
import http from 'node:http'
import https from 'node:https'
import net from 'node:net'

const listen = net.Server.prototype.listen
net.Server.prototype.listen = function (port, ...rest) {
  return typeof port === 'string' ? listen.call(this, Number(port), '127.0.0.1', ...rest) : listen.call(this, port, ...rest)
}
for (const module of [http, https]) {
  const create = module.createServer
  module.createServer = (...args) => Object.assign(create(...args), { keepAliveTimeout: 60000 })
}
