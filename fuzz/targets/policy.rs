//! See `nats_callout::fuzzing::policy`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| nats_callout::fuzzing::policy(input));
