#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| protoplex_wire::fuzzing::manifest(data));
