//! Imports an interface that no host has, so that a push of it is refused by name.
use protoplex_sdk::edge::*;

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package sample:weird;
            interface machine { start: func() -> u32; }
            world weird { import machine; }
        ",
    });
}

protoplex_sdk::edge!(decide);

fn decide(_request: Request) -> Decision {
    Decision::text(format!("{}\n", bindings::sample::weird::machine::start()))
}
