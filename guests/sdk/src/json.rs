//! Text as it stands in JSON, for handlers that write theirs by hand.

/// Formats a text as a JSON string with its quotes (RFC 8259, section 7).
pub fn string(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            c if c < ' ' => json.push_str(&format!("\\u{:04x}", c as u32)),
            c => json.push(c),
        }
    }
    json.push('"');
    json
}

#[cfg(test)]
mod tests {
    use super::string;

    #[test]
    fn nothing_in_a_text_ends_its_string() {
        for (text, json) in [
            ("hello", r#""hello""#),
            ("a\"b\\", r#""a\"b\\""#),
            ("line\n\u{1}", r#""line\u000a\u0001""#),
            ("ü", r#""ü""#),
        ] {
            assert_eq!(string(text), json);
        }
    }
}
