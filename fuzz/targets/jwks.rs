//! See `nats_callout::fuzzing::jwks`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| nats_callout::fuzzing::jwks(input));
