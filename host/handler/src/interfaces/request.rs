//! `protoplex:host/request`: the head of the request that a call is about.

use crate::{
    bindings::host::protoplex::host::{request::Host, types::Field},
    decision::Text,
    state::HostState,
};

impl HostState {
    /// Value of the first header of that name.
    pub(super) fn header_value(&self, name: &str) -> Option<Text> {
        let mut headers = self.request.headers();
        let (_, value) =
            headers.find(|(header, _)| header.eq_ignore_ascii_case(name.as_bytes()))?;
        Some(Text::from(&*String::from_utf8_lossy(value)))
    }
}

impl Host for HostState {
    fn header(&mut self, name: String) -> Option<String> {
        self.header_value(&name).map(Text::into_string)
    }

    fn headers(&mut self) -> Vec<Field> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.request
            .headers()
            .map(|(name, value)| Field {
                name: text(name),
                value: text(value),
            })
            .collect()
    }

    fn authority(&mut self) -> String {
        self.request.authority().to_owned()
    }

    fn scheme(&mut self) -> String {
        self.request.scheme.as_str().to_owned()
    }

    fn client_address(&mut self) -> String {
        self.request.client.to_string()
    }

    fn request_id(&mut self) -> String {
        self.request.request_id().to_owned()
    }
}
