//! Reads `table.txt`.

const TABLE: &str = include_str!("table.txt");

/// Meaning of the words in braces.
const WORDS: [(&str, &str); 4] = [
    ("{get}", r"GET /case HTTP/1.1\r\nHost: a.test\r\n"),
    ("{post}", r"POST /case HTTP/1.1\r\nHost: a.test\r\n"),
    ("{close}", r"Connection: close\r\n\r\n"),
    (
        "{evil}",
        r"GET /smuggled HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nX: yzzz\r\n\r\n",
    ),
];

/// One case.
pub struct Case {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    /// Statuses of each answer that are right.
    pub statuses: Vec<Vec<u16>>,
}

impl Case {
    /// Whether the second request is meant to be one.
    pub fn is_pipelined(&self) -> bool {
        self.name.starts_with("pipelined")
    }
}

pub fn cases() -> Vec<Case> {
    let (mut cases, mut lines) = (Vec::<Case>::new(), TABLE.lines());
    while let Some(line) = lines.next() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, statuses) = line
            .split_once(" => ")
            .expect("a case starts with its name");
        let status = |text: &str| text.parse().expect("a status");
        let statuses = statuses
            .split(' ')
            .map(|any| any.split('|').map(status).collect());
        let bytes = lines.by_ref().take_while(|line| !line.is_empty());
        cases.push(Case {
            name,
            statuses: statuses.collect(),
            bytes: unescaped(&bytes.collect::<String>()),
        });
    }
    cases
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut text = text.to_owned();
    for (word, meaning) in WORDS {
        text = text.replace(word, meaning);
    }
    let (mut bytes, mut rest) = (Vec::new(), text.bytes());
    while let Some(byte) = rest.next() {
        bytes.push(match (byte, byte == b'\\') {
            (byte, false) => byte,
            _ => match rest.next().expect("something is escaped") {
                b'r' => b'\r',
                b'n' => b'\n',
                b't' => b'\t',
                b'0' => 0,
                b'x' => {
                    let digits = [(); 2].map(|()| char::from(rest.next().expect("two digits")));
                    let [high, low] = digits.map(|digit| digit.to_digit(16).expect("hexadecimal"));
                    u8::try_from(high << 4 | low).expect("two digits are a byte")
                }
                other => panic!("\\{} is no escape", char::from(other)),
            },
        });
    }
    bytes
}
