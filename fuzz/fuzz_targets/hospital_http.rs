#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::hospital_http::run(bytes));
