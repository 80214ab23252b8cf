//! See `nats_callout::internals::fuzzing::token`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| nats_callout::internals::fuzzing::token(input));
