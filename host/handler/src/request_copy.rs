//! The head of the request being decided, copied into buffers that an instance keeps: host functions of a guest
//! cannot borrow from the connection. One memcpy a field, no allocation once the buffers have grown.

use protoplex_http::{Head, Scheme};
use std::net::{IpAddr, Ipv4Addr};

#[derive(Debug)]
pub(crate) struct RequestCopy {
    text: Vec<u8>,
    method_end: usize,
    path_end: usize,
    authority_end: usize,
    request_id_end: usize,
    /// End of the name and end of the value of each header, in `text`.
    headers: Vec<(usize, usize)>,
    pub(crate) scheme: Scheme,
    pub(crate) client: IpAddr,
}

impl Default for RequestCopy {
    fn default() -> Self {
        Self {
            text: Vec::new(),
            method_end: 0,
            path_end: 0,
            authority_end: 0,
            request_id_end: 0,
            headers: Vec::new(),
            scheme: Scheme::Http,
            client: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        }
    }
}

impl RequestCopy {
    pub(crate) fn fill(&mut self, head: &Head<'_>) {
        self.text.clear();
        self.headers.clear();
        self.scheme = head.scheme;
        self.client = head.client;
        self.method_end = self.append(head.method.as_bytes());
        self.path_end = self.append(head.path.as_bytes());
        self.authority_end = self.append(head.authority.as_bytes());
        self.request_id_end = self.append(head.request_id.as_bytes());
        for field in head.headers {
            let name_end = self.append(field.name.as_bytes());
            let value_end = self.append(field.value);
            self.headers.push((name_end, value_end));
        }
    }

    /// Gives back what is not needed: of a head that is kept for long.
    pub(crate) fn shrink(&mut self) {
        self.text.shrink_to_fit();
        self.headers.shrink_to_fit();
    }

    fn append(&mut self, bytes: &[u8]) -> usize {
        self.text.extend_from_slice(bytes);
        self.text.len()
    }

    fn str(&self, start: usize, end: usize) -> &str {
        std::str::from_utf8(&self.text[start..end]).unwrap_or("")
    }

    pub(crate) fn method(&self) -> &str {
        self.str(0, self.method_end)
    }

    pub(crate) fn path(&self) -> &str {
        self.str(self.method_end, self.path_end)
    }

    pub(crate) fn authority(&self) -> &str {
        self.str(self.path_end, self.authority_end)
    }

    pub(crate) fn request_id(&self) -> &str {
        self.str(self.authority_end, self.request_id_end)
    }

    /// Names and values, in order.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut start = self.request_id_end;
        self.headers.iter().map(move |&(name_end, value_end)| {
            let field = (&self.text[start..name_end], &self.text[name_end..value_end]);
            start = value_end;
            field
        })
    }
}
