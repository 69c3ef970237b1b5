// Loaded before the suite's client: its `node-fetch` becomes undici's fetch, which keeps connections open and can
// use a proxy. BUFFY_WAY says how:
//   reverse  straight to the base URL
//   forward  to PROXY, with absolute-form targets (RFC 9112 section 3.2.2)
//   connect  to PROXY, through CONNECT
import { createRequire, register } from 'node:module'
import { pathToFileURL } from 'node:url'

const undici = createRequire(pathToFileURL(process.cwd() + '/package.json'))('undici')

function absoluteForm (agent, proxy) {
  const dispatch = agent.dispatch.bind(agent)
  agent.dispatch = (options, handler) => {
    const origin = new URL(options.origin)
    const lines = [options.headers ?? []].flat(2)
    const fields = Array.isArray(options.headers) ? lines : Object.entries(options.headers ?? {}).flat()
    return dispatch(
      { ...options, origin: proxy, path: origin.origin + options.path, headers: ['host', origin.host, ...fields] },
      handler
    )
  }
  return agent
}

const proxy = process.env.PROXY
undici.setGlobalDispatcher({
  reverse: () => new undici.Agent(),
  forward: () => absoluteForm(new undici.Agent(), proxy),
  connect: () => new undici.ProxyAgent({ uri: proxy, proxyTunnel: true })
}[process.env.BUFFY_WAY]())

// fetch adds `Cache-Control: no-cache` of its own to some requests, unless there is one: an unknown directive
// stands in. What the suite asks for with `cache` concerns browsers.
globalThis.conformanceFetch = (url, { cache, ...init } = {}) => {
  const headers = [...(init.headers ?? [])]
  for (const name of ['pragma', 'cache-control']) {
    if (!headers.some(([n]) => n.toLowerCase() === name)) headers.push([name, 'x-none'])
  }
  return undici.fetch(url, { ...init, headers })
}
const module = 'data:text/javascript,' + encodeURIComponent('export default globalThis.conformanceFetch')
register('data:text/javascript,' + encodeURIComponent(`
  export async function resolve (name, context, next) {
    return name === 'node-fetch' ? { url: ${JSON.stringify(module)}, shortCircuit: true } : next(name, context)
  }`), import.meta.url)
