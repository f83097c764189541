//! Counts the messages of each connection, across builds. The tests' handler: words make it do all that a handler can,
//! and settings make it fail where a build may.
use protoplex_sdk::live::*;

protoplex_sdk::live_stateful!(Count);

struct Count {
    received: u64,
    /// More than a connection may be remembered by, where that is asked for.
    ballast: Vec<u8>,
}

fn says(setting: &str) -> bool {
    settings::get("count").is_some_and(|value| value == setting)
}

impl Stateful for Count {
    const SCHEMA: u32 = 1;

    fn opened(opening: Opening) -> Result<Self, Refusal> {
        if opening.query("refuse").is_some() {
            return Err(Refusal::new(403, "not you"));
        }
        if let Some(user) = opening.query("user") {
            let _ = set_user(&user);
        }
        for channel in opening
            .query("subscribe")
            .iter()
            .flat_map(|all| all.split(','))
        {
            let done = subscribe(channel);
            if let Err(fault) = done {
                let _ = send_text(format!("subscribe {channel}: {}", fault.name()));
            }
        }
        let again = match opening.again() {
            None => "opened".to_owned(),
            Some(Again::NotRestored) => "again not-restored".to_owned(),
            Some(Again::Lost) => "again lost".to_owned(),
        };
        let build = settings::get("greeting").unwrap_or_default();
        let transport = match opening.transport() {
            Transport::Websocket => "websocket",
            Transport::EventStream => "event-stream",
            Transport::LongPoll => "long-poll",
        };
        let _ = send_text(format!("{again} {transport} {build}"));
        Ok(Self {
            received: 0,
            ballast: Vec::new(),
        })
    }

    fn received(&mut self, message: Message) {
        self.received += 1;
        let text = match &message {
            Message::Text(text) => text.as_str(),
            Message::Binary(_) => {
                let _ = send(message);
                return;
            }
        };
        let text = text.trim_matches('"');
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let done = match word {
            "count" => {
                let build = settings::get("greeting").unwrap_or_default();
                send_text(format!("{} {build}", self.received))
            }
            "close" => disconnect(rest.parse().unwrap_or(1000), "as asked"),
            "subscribe" => subscribe(rest),
            "unsubscribe" => unsubscribe(rest),
            "show" => set_presence(rest, true),
            "hide" => set_presence(rest, false),
            "publish" => {
                let (channel, data) = rest.split_once(' ').unwrap_or((rest, ""));
                publish(channel, data)
            }
            "many" => (0..2_000).try_for_each(|_| send_text("x")),
            "large" => {
                self.ballast = vec![b'x'; rest.parse().unwrap_or(0)];
                Ok(())
            }
            "spin" => loop {
                std::hint::black_box(());
            },
            "panic" => panic!("as asked"),
            _ => send_text(text),
        };
        if let Err(fault) = done {
            let _ = send_text(format!("{word}: {}", fault.name()));
        }
    }

    fn closed(self, ending: Ending) {
        log::info!(
            "closed after {}: {} {}",
            self.received,
            ending.code,
            ending.reason
        );
    }

    fn save(&self) -> Vec<u8> {
        if says("save-panics") {
            panic!("save, as asked");
        }
        let mut bytes = self.received.to_le_bytes().to_vec();
        bytes.extend(&self.ballast);
        bytes
    }

    fn restore(schema: u32, bytes: &[u8]) -> Result<Self, String> {
        if says("restore-fails") {
            return Err("as asked".into());
        }
        if says("restore-panics") {
            panic!("restore, as asked");
        }
        let (count, ballast) = bytes.split_at_checked(8).ok_or("too few bytes")?;
        match (schema, count.try_into()) {
            (1, Ok(count)) => Ok(Self {
                received: u64::from_le_bytes(count),
                ballast: ballast.to_vec(),
            }),
            _ => Err(format!("schema {schema} is not known")),
        }
    }
}
