//! Sends back whatever comes on a connection.
use protoplex_sdk::live::*;

protoplex_sdk::live!(Echo);

struct Echo;

impl Handler for Echo {
    fn received(_: Connection, message: Message) {
        let _ = send(message);
    }
}
