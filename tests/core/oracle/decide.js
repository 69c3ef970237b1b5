// What http-cache-semantics decides: a JSON list of cases on stdin, a JSON list of decisions on stdout.
// Times are POSIX seconds; fields are objects with lower-case names, as node's own parser gives them.
"use strict";

const CachePolicy = require("http-cache-semantics");

let clock = 0;

class Policy extends CachePolicy {
  now() {
    return clock * 1000;
  }
}

function conditions(headers) {
  const found = {};
  for (const name of ["if-none-match", "if-modified-since"]) {
    if (name in headers) found[name] = headers[name];
  }
  return found;
}

function validated(policy, presented, response) {
  const { policy: fresh, matches } = policy.revalidatedPolicy(presented, response);
  return {
    confirmed: Boolean(matches),
    freshened: fresh.toObject().resh,
    freshened_age: fresh.age(),
    freshened_lifetime: fresh.maxAge(),
  };
}

function decisions({ received, now, asked, response, presented, confirmation }) {
  clock = received;
  const policy = new Policy(asked, response, { shared: true });
  clock = now;
  const { revalidation } = policy.evaluateRequest(presented);
  return {
    storable: policy.storable(),
    age: policy.age(),
    lifetime: policy.maxAge(),
    ttl: policy.timeToLive() / 1000,
    reuse: policy.satisfiesWithoutRevalidation(presented),
    conditions: revalidation ? conditions(revalidation.headers) : null,
    failing: policy.revalidatedPolicy(presented, { status: 503, headers: {} }).matches,
    ...validated(policy, presented, confirmation),
  };
}

let text = "";
process.stdin.setEncoding("utf8");
process.stdin.on("data", (chunk) => (text += chunk));
process.stdin.on("end", () => process.stdout.write(JSON.stringify(JSON.parse(text).map(decisions))));
