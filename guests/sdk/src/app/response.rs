//! Responses of an app handler.

use super::{Body, Sender};
use std::{future::Future, pin::Pin};
use wasip3::{
    http::types::{self, Fields},
    spawn_local, wit_future, wit_stream,
};

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// A response of an app handler.
pub struct Response {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    content: Content,
}

enum Content {
    Bytes(Vec<u8>),
    Through(Body),
    Stream(Box<dyn FnOnce(Sender) -> Task>),
}

impl Response {
    /// Makes a response with that status and content type (none when empty).
    pub fn respond(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::with(status, content_type, Content::Bytes(body.into()))
    }

    /// Makes a response of 200 with plain text.
    pub fn text(body: impl Into<String>) -> Self {
        Self::respond(200, "text/plain; charset=utf-8", body.into())
    }

    /// Makes a response of 200 with a page.
    pub fn html(body: impl Into<String>) -> Self {
        Self::respond(200, "text/html; charset=utf-8", body.into())
    }

    /// Makes a response of 200 with JSON that the caller has written.
    pub fn json(body: impl Into<String>) -> Self {
        Self::respond(200, "application/json", body.into())
    }

    /// Makes a response of 404 with a line of text.
    pub fn not_found() -> Self {
        Self::respond(404, "text/plain; charset=utf-8", "not found\n")
    }

    /// Makes a response of 200 with a body that was received. It is sent on unread, so its bytes do not enter the
    /// handler. One that was cut ends the response the same way, and trailers go on.
    pub fn through(content_type: &str, body: Body) -> Self {
        Self::with(200, content_type, Content::Through(body))
    }

    /// Makes a response of 200 with what the function sends. The function runs while the response is under way, as
    /// fast as the client takes it.
    pub fn stream<F, T>(content_type: &str, send: F) -> Self
    where
        F: FnOnce(Sender) -> T + 'static,
        T: Future<Output = ()> + 'static,
    {
        let task = |sender| -> Task { Box::pin(send(sender)) };
        Self::with(200, content_type, Content::Stream(Box::new(task)))
    }

    /// Sets the status.
    pub fn status(mut self, code: u16) -> Self {
        self.status = code;
        self
    }

    /// Adds a header. One that the standard forbids or that is not well-formed is left out.
    pub fn header(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.headers
            .push((name.to_owned(), value.as_ref().as_bytes().to_vec()));
        self
    }

    #[doc(hidden)]
    pub fn into_raw(self) -> types::Response {
        let fields = Fields::new();
        for (name, value) in &self.headers {
            // The only errors are forbidden and ill-formed fields, and the sizes that the host allows.
            let _ = fields.append(name, value);
        }
        let response = self.content.into_response(fields);
        // Refused outside 100 to 599, where 200 would be a lie.
        if response.set_status_code(self.status).is_err() {
            let _ = response.set_status_code(500);
        }
        response
    }

    fn with(status: u16, content_type: &str, content: Content) -> Self {
        let response = Self {
            status,
            headers: Vec::new(),
            content,
        };
        if content_type.is_empty() {
            response
        } else {
            response.header("content-type", content_type)
        }
    }
}

impl Content {
    fn into_response(self, fields: Fields) -> types::Response {
        // No trailers: dropping the writer sends the default.
        let no_trailers = || wit_future::new(|| Ok(None)).1;
        let (body, trailers) = match self {
            Self::Through(body) => {
                let (stream, trailers) = body.into_parts();
                (Some(stream), trailers)
            }
            Self::Bytes(bytes) => {
                let _ = fields.append("content-length", bytes.len().to_string().as_bytes());
                let send = |mut sender: Sender| async move {
                    // Whoever is gone needs nothing more.
                    let _ = sender.send(bytes).await;
                };
                (Some(streamed(send)), no_trailers())
            }
            Self::Stream(send) => (Some(streamed(send)), no_trailers()),
        };
        types::Response::new(fields, body, trailers).0
    }
}

/// Makes a body that a task, which runs from now on, sends.
fn streamed<T: Future<Output = ()> + 'static>(
    send: impl FnOnce(Sender) -> T,
) -> wasip3::wit_bindgen::StreamReader<u8> {
    let (stream, body) = wit_stream::new();
    spawn_local(send(Sender { stream }));
    body
}
