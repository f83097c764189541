#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| protoplex_net::fuzzing::proxy_protocol(data));
