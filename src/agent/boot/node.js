// Runs inside node before its main script does, by --require. Descriptor 3 carries what it
// carries for sitecustomize.py.
'use strict';
{
  const fs = require('fs');
  const read = (n) => {
    const buffer = Buffer.alloc(n);
    for (let got = 0; got < n; ) {
      const more = fs.readSync(3, buffer, got, n - got, null);
      if (more === 0) process.exit(0); // the agent has gone
      got += more;
    }
    return buffer;
  };
  let line = '';
  for (let c = read(1); c[0] !== 10; c = read(1)) line += c.toString('latin1');
  for (const name of line.split(' ').filter(Boolean)) require(name);

  // What the script does not find beside itself it finds in the working directory.
  const Module = require('module');
  const resolve = Module._resolveFilename;
  let here;
  Module._resolveFilename = function (request, parent, ...rest) {
    try {
      return resolve.call(this, request, parent, ...rest);
    } catch (error) {
      if (error.code !== 'MODULE_NOT_FOUND' || parent?.filename !== process.argv[1]) throw error;
      const filename = `${here}/main.js`;
      const main = new Module(filename);
      Object.assign(main, { filename, paths: Module._nodeModulePaths(here) });
      try {
        return resolve.call(this, request, main, ...rest);
      } catch {
        throw error;
      }
    }
  };

  fs.writeSync(3, 'r');
  const fields = read(read(4).readUInt32BE()).toString().split('\0');
  fs.closeSync(3);
  const count = Number(fields[2]);
  for (const field of fields.slice(3 + count, -1)) {
    const at = field.indexOf('=');
    process.env[field.slice(0, at)] = field.slice(at + 1);
  }
  here = fields[0];
  process.chdir(here);
  process.argv.push(...fields.slice(3, 3 + count));
  process.execArgv.length = 0;
}
