// What a client of Sandpool needs: to say what to run, how it ended, or why it was refused.
const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');
const protobuf = require('protobufjs');

const protos = path.join(__dirname, '../../proto');
const options = {
  keepCase: true, longs: Number, enums: String, defaults: true, oneofs: true, includeDirs: [protos],
};
const { v1 } = grpc.loadPackageDefinition(loader.loadSync('sandpool/v1/execution.proto', options)).sandpool;

// As much of google/rpc/status.proto and error_details.proto as is read here.
const details = protobuf.parse(`
  syntax = "proto3";
  message Status { repeated Any details = 3; }
  message Any { string type_url = 1; bytes value = 2; }
  message BadRequest { repeated FieldViolation field_violations = 1; }
  message FieldViolation { string field = 1; string description = 2; }
  message RetryInfo { Duration retry_delay = 1; }
  message Duration { int64 seconds = 1; int32 nanos = 2; }
`, { keepCase: true }).root;

/** What to run: Python source, with any field of ExecutionSpec beside it. */
const python = (source, options = {}) => ({ code: { language: 'python', source }, ...options });

const seconds = (duration) => Number(duration.seconds) + duration.nanos / 1e9;

/** How an execution ended, in words. A call that was not refused always ends with one of these. */
function describe(finished) {
  const end = finished[finished.outcome];
  switch (finished.outcome) {
    case 'exited': return `exited with code ${end.code}`;
    case 'signaled': return `ended by signal ${end.signal} (${end.name})`;
    case 'timed_out': return `timed out after ${seconds(end.timeout)}s`;
    case 'out_of_memory': return `out of memory at ${end.memory_bytes >> 20} MiB`;
    // BEFORE_START: no start was confirmed, so repeat it. Otherwise only you know whether that is safe.
    case 'sandbox_lost': return `sandbox lost, ${end.cause}: ${end.reason}`;
    // disk_limit, output_limit, cancelled, not_started, and what is newer than this client
    default: return `${finished.outcome}: ${JSON.stringify(end)}`;
  }
}

/** What a status says: its code, what is wrong with each field, and when to try again. */
function explain(error) {
  const lines = [];
  for (const bytes of error.metadata?.get('grpc-status-details-bin') ?? []) {
    for (const { type_url: type, value } of details.lookupType('Status').decode(bytes).details) {
      if (type.endsWith('/google.rpc.BadRequest')) {
        for (const { field, description } of details.lookupType('BadRequest').decode(value).field_violations) {
          lines.push(`\n  ${field}: ${description}`);
        }
      } else if (type.endsWith('/google.rpc.RetryInfo')) {
        lines.push(`\n  try again in ${seconds(details.lookupType('RetryInfo').decode(value).retry_delay)}s`);
      }
    }
  }
  return grpc.status[error.code] + (lines.join('') || `: ${error.details}`);
}

module.exports = { grpc, v1, python, describe, explain };
