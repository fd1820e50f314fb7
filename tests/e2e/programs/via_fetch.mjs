// METHOD URL: print the body, with the fetch that Node brings.
const [method, url] = process.argv.slice(2);
const response = await fetch(url, { method });
process.stdout.write(await response.text());
process.exitCode = response.ok ? 0 : 22;
