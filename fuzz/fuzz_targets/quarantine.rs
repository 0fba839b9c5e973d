#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| event_consumer::fuzzing::quarantine(bytes));
