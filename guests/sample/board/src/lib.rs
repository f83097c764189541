//! The sample site's live board: who is there, what they say, what they draw. What happens on the board itself goes from
//! page to page by its channel; the handler lets people in, and remembers how busy each of them was.
use protoplex_sdk::{json, live::*};

protoplex_sdk::live_stateful!(Board);

struct Board {
    asked: u32,
}

impl Stateful for Board {
    const SCHEMA: u32 = 1;

    /// Lets a client of `/board?name=ann` in.
    fn opened(opening: Opening) -> Result<Self, Refusal> {
        let name = opening.query("name").unwrap_or_default();
        set_user(&name).map_err(|_| Refusal::new(400, "say who you are: /board?name=ann"))?;
        Ok(Self { asked: 0 })
    }

    /// Whatever a page asks is answered with how often it asked, so that it can tell that a new build still knows.
    fn received(&mut self, _: Message) {
        self.asked += 1;
        let greeting = json::string(&settings::get("greeting").unwrap_or_default());
        let asked = self.asked;
        let _ = send_text(format!(r#"{{"asked":{asked},"greeting":{greeting}}}"#));
    }

    fn save(&self) -> Vec<u8> {
        self.asked.to_le_bytes().into()
    }

    fn restore(_: u32, bytes: &[u8]) -> Result<Self, String> {
        let asked = bytes.try_into().map(u32::from_le_bytes);
        asked
            .map(|asked| Self { asked })
            .map_err(|_| "four bytes are a number".into())
    }
}
