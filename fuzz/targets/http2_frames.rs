#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| protoplex_server::fuzzing::http2_frames(data));
