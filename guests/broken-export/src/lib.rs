//! A component, but of no world that runs here.

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package sample:other;
            world other { export run: func() -> u32; }
        ",
    });

    struct Other;

    impl Guest for Other {
        fn run() -> u32 {
            1
        }
    }

    export!(Other);
}
