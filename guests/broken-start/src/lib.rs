//! Traps while it is instantiated: wit-component makes `_initialize` the start of the component.
use protoplex_sdk::edge::*;

protoplex_sdk::edge!(decide);

fn decide(_request: Request) -> Decision {
    Decision::text("never\n")
}

#[unsafe(no_mangle)]
extern "C" fn _initialize() {
    std::process::abort();
}
