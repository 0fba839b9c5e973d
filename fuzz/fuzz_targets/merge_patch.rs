#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| user_service::fuzzing::merge_patch(bytes));
