// METHOD URL: print the body, with a fetch that reads the proxy variables in every version of Node.
import { EnvHttpProxyAgent, fetch } from "undici";
const [method, url] = process.argv.slice(2);
const response = await fetch(url, { method, dispatcher: new EnvHttpProxyAgent() });
process.stdout.write(await response.text());
process.exitCode = response.ok ? 0 : 22;
