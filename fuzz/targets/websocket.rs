#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| protoplex_websocket::fuzzing::websocket(data));
