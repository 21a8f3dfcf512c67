// Runs code in Sandpool with @grpc/grpc-js: streams, outcomes, cancelling, refusals. No code is generated.
const { promisify } = require('node:util');
const { grpc, v1, python, describe, explain } = require('./sandpool');

const deadline = () => ({ deadline: Date.now() + 30_000 }); // The call's; limits.timeout is the program's own.

/** Sends a line, waits for the answer, and sends the next one: the program runs meanwhile. */
async function converse(executions) {
  const call = executions.Execute(deadline());
  const source = 'import sys\nfor line in sys.stdin:\n    print(line.strip().upper())';
  call.write({ start: python(source, { stdin_open: true }) });
  const lines = ['hello', 'world'];
  const say = () => {
    if (lines.length === 0) return call.write({ close_stdin: {} });
    console.log('>', lines[0]);
    return call.write({ stdin: Buffer.from(`${lines.shift()}\n`) });
  };
  let output = '';
  const decoder = new TextDecoder(); // A character may lie in two pieces.
  for await (const event of call) {
    switch (event.event) {
      case 'started':
        say();
        break;
      case 'stdout':
        output += decoder.decode(event.stdout, { stream: true });
        for (let end; (end = output.indexOf('\n')) >= 0; output = output.slice(end + 1)) {
          console.log('<', output.slice(0, end));
          say();
        }
        break;
      case 'stderr':
        process.stderr.write(event.stderr);
        break;
      case 'finished':
        console.log(describe(event.finished));
        call.end();
    }
  }
}

/** Gives up a program that runs. The server ends it and deletes its sandbox. */
async function cancel(executions) {
  const call = executions.Execute(deadline());
  const source = "import time\nprint('working')\ntime.sleep(600)";
  call.write({ start: python(source, { limits: { timeout: { seconds: 600 } } }) });
  for await (const event of call) {
    if (event.event === 'stdout') {
      console.log('<', event.stdout.toString().trim());
      call.cancel();
    }
  }
}

async function main(executions) {
  const run = promisify(executions.Run.bind(executions));
  console.log('== a conversation');
  await converse(executions);
  console.log('== outcomes');
  for (const spec of [
    python('raise SystemExit(3)'),
    python('import os\nos.kill(os.getpid(), 9)'),
    python('while True: pass', { limits: { timeout: { seconds: 1 } } }),
    python('import time\nx = bytearray(200 << 20)\ntime.sleep(60)', { limits: { memory_bytes: 100 << 20 } }),
  ]) {
    const { finished } = await run({ spec }, deadline());
    console.log(describe(finished));
  }
  console.log('== a cancelled call');
  await cancel(executions).catch((error) => console.log(explain(error)));
  console.log('== a refused call');
  const wrong = python('print(1)', { working_directory: '/etc', env: { 'A=B': '' } });
  await run({ spec: wrong }, deadline()).catch((error) => console.log(explain(error)));
}

const address = process.env.SANDPOOL_ADDRESS ?? '127.0.0.1:50051';
const executions = new v1.ExecutionService(address, grpc.credentials.createInsecure());
main(executions)
  .catch((error) => {
    console.error(error.code === undefined ? error : explain(error));
    process.exitCode = 1;
  })
  .finally(() => executions.close());
