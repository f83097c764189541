//! A request's body on its way in: framing, who waits for it, and how it failed.

use super::{
    body::{Producer, Want},
    half_closed::is_end,
    head::RequestFraming,
    wire::{End, READ_BYTES, Wire, poll_read},
};
use crate::{Cause, Service, body_rules::BodyRules, refusal::Refusal, silence::Silence};
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use protoplex_http::{
    Body, BodyError, ClientPace, Duplex, Pace, Pacing,
    chunked::{Decoded, Decoder, Writer},
};
use protoplex_net as net;
use std::task::{Context, Poll};
use tokio::time::Instant;

/// Pieces of a request's body.
pub(super) const PIECE_BYTES: usize = 64 << 10;

/// The request's body on its way in.
pub(super) struct Intake {
    source: RequestSource,
    pub(super) producer: Producer,
    /// The client waits for `100 Continue`.
    pub(super) owes_continue: bool,
    /// Nothing more is read of it.
    pub(super) finished: bool,
    /// Refusal for the client when nothing was said yet. Where the body ends is not known: the connection closes.
    pub(super) failed: Option<Refusal>,
    pace: net::Pace,
    /// The pace that the service asks for.
    said: Option<ClientPace>,
    /// Present for a body of unknown length: one of known length is owed to its end.
    pacing: Option<Pacing>,
    /// Present while the service itself answers beside a body of unknown length.
    silence: Option<Silence>,
    /// Since when somebody waits for more of the body.
    awaited: Option<Instant>,
}

enum RequestSource {
    Length { whole: u64, left: u64 },
    Chunked(Decoder),
}

impl Intake {
    pub(super) fn new(framing: RequestFraming, expects_continue: bool) -> Self {
        let (source, finished) = match framing {
            RequestFraming::None => (RequestSource::Length { whole: 0, left: 0 }, true),
            RequestFraming::Length(whole) => (RequestSource::Length { whole, left: whole }, false),
            RequestFraming::Chunked => {
                (RequestSource::Chunked(Decoder::new(Writer::Client)), false)
            }
        };
        Self {
            source,
            producer: Producer::new(!finished),
            owes_continue: expects_continue && !finished,
            finished,
            failed: None,
            pace: net::Pace::default(),
            said: None,
            pacing: (framing == RequestFraming::Chunked).then(Pacing::default),
            silence: None,
            awaited: None,
        }
    }

    /// Sets how fast the body has to come, as the service said when it was called.
    pub(super) fn set_pace(&mut self, said: Option<ClientPace>) {
        self.said = said;
    }

    /// Whether a node of ours sent the request.
    pub(super) fn is_judged_before(&self) -> bool {
        self.said == Some(ClientPace::JudgedBefore)
    }

    pub(super) fn body(&self) -> Body {
        let length = match self.source {
            RequestSource::Length { whole, .. } => Some(whole),
            RequestSource::Chunked(_) => None,
        };
        let Some(body) = self.producer.consumer(length) else {
            return Body::empty();
        };
        match &self.pacing {
            Some(pacing) => Body::paced(body, pacing.clone()),
            None => Body::new(body),
        }
    }

    /// The response begins.
    pub(super) fn answered(&self) {
        if let Some(pacing) = &self.pacing {
            pacing.advance(Pace::Answered);
        }
    }

    /// The service itself answers while the body goes on.
    pub(super) fn converse(&mut self, rules: &BodyRules) {
        if self.pacing.is_some() && !self.finished {
            self.silence = Some(Silence::new(rules.silence_max(self.said)));
        }
    }

    /// The service said something.
    pub(super) fn answer_moved(&mut self) {
        if let Some(silence) = &mut self.silence {
            silence.spoke();
        }
    }

    /// Ready when client and service have been silent for too long, where the service says nothing now.
    pub(super) fn poll_silent(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.silence {
            Some(silence) if !self.finished => silence.poll_over(self.awaited, cx),
            _ => Poll::Pending,
        }
    }

    /// Bytes that are known to come still.
    pub(super) fn announced(&self) -> u64 {
        match self.source {
            RequestSource::Length { left, .. } => left,
            RequestSource::Chunked(_) => 0,
        }
    }

    pub(super) fn decode(&mut self, input: &mut BytesMut) -> Result<Decoded, &'static str> {
        match &mut self.source {
            RequestSource::Chunked(decoder) => decoder.decode(input),
            RequestSource::Length { left: 0, .. } => Ok(Decoded::End),
            RequestSource::Length { .. } if input.is_empty() => Ok(Decoded::NeedsMore),
            RequestSource::Length { left, .. } => {
                let most = usize::try_from(*left).unwrap_or(usize::MAX);
                let piece = input
                    .split_to(input.len().min(most).min(PIECE_BYTES))
                    .freeze();
                *left -= piece.len() as u64;
                Ok(Decoded::Data(piece))
            }
        }
    }

    /// Whether `input`, after which nothing comes, holds the rest of the body, or shows what is wrong with it.
    fn is_settled_by(&self, input: &BytesMut) -> bool {
        match &self.source {
            RequestSource::Length { left, .. } => self.finished || *left <= input.len() as u64,
            RequestSource::Chunked(decoder) => {
                // At most a piece, and only of a client that has said its last word.
                let (mut decoder, mut input) = (decoder.clone(), input.clone());
                self.finished
                    || loop {
                        match decoder.decode(&mut input) {
                            Ok(Decoded::Data(_)) => {}
                            Ok(Decoded::NeedsMore) => break false,
                            Ok(Decoded::End) | Err(_) => break true,
                        }
                    }
            }
        }
    }

    fn give(&mut self, piece: Bytes) {
        self.pace.pause();
        if let RequestSource::Length { left: 0, .. } = self.source {
            self.finished = true;
            self.producer.give_last(piece);
        } else {
            self.producer.give(piece);
        }
    }

    fn end(&mut self) {
        let trailers = match &mut self.source {
            RequestSource::Chunked(decoder) => decoder.take_trailers(),
            RequestSource::Length { .. } => None,
        };
        self.finished = true;
        self.producer.end(trailers);
    }

    fn fail(&mut self, status: StatusCode, why: &'static str, error: BodyError) {
        self.failed = Some(Refusal(status, why));
        self.finished = true;
        self.producer.fail(error);
    }

    fn malformed(&mut self, why: &'static str) {
        let error = BodyError::Malformed(why.into());
        self.fail(StatusCode::BAD_REQUEST, why, error);
    }

    fn went_away(&mut self) {
        self.finished = true;
        let why = "the client went away";
        self.producer.fail(BodyError::Incomplete(why.into()));
    }
}

impl<S, IO> Wire<'_, S, IO>
where
    S: Service,
    IO: Duplex,
{
    /// Brings in what the service wants of the request's body, and watches for the client's end.
    pub(super) fn poll_intake(
        &mut self,
        cx: &mut Context<'_>,
        intake: &mut Intake,
    ) -> Result<(), End> {
        loop {
            if intake.finished || intake.producer.want(cx) != Want::More {
                intake.pace.pause();
                intake.awaited = None;
                return self.poll_ahead(cx, intake);
            }
            if std::mem::take(&mut intake.owes_continue) {
                self.out.extend_from_slice(super::respond::CONTINUE);
                if let Poll::Ready(Err(end)) = self.poll_flush(cx) {
                    return Err(end);
                }
            }
            match intake.decode(&mut self.input) {
                Ok(Decoded::Data(piece)) => intake.give(piece),
                Ok(Decoded::End) => intake.end(),
                Err(why) => intake.malformed(why),
                Ok(Decoded::NeedsMore) if self.is_half_closed() => {
                    intake.went_away();
                    return Err(End::Io);
                }
                Ok(Decoded::NeedsMore) => {
                    match poll_read(&mut self.io, &mut self.input, PIECE_BYTES, cx) {
                        Poll::Ready(Ok(read)) if read > 0 => {
                            intake.pace.moved(read);
                            intake.awaited = None;
                        }
                        Poll::Ready(_) => {
                            intake.went_away();
                            return Err(End::Io);
                        }
                        Poll::Pending => {
                            intake.awaited.get_or_insert_with(Instant::now);
                            self.poll_slow(cx, intake);
                            return Ok(());
                        }
                    }
                }
            }
        }
    }

    /// Nobody waits for the body: what comes is kept, up to a piece, so that a client that aborts is noticed. One that
    /// has sent its whole request and ends its side still gets the answer.
    fn poll_ahead(&mut self, cx: &mut Context<'_>, intake: &mut Intake) -> Result<(), End> {
        if self.is_half_closed() {
            return self.poll_reset(cx);
        }
        while self.input.len() < PIECE_BYTES {
            // More of a body that has not ended is likely to be there at once.
            let most = if intake.finished {
                READ_BYTES
            } else {
                PIECE_BYTES - self.input.len()
            };
            match poll_read(&mut self.io, &mut self.input, most, cx) {
                Poll::Ready(Ok(read)) if read > 0 => {}
                Poll::Ready(end) if is_end(&end) && intake.is_settled_by(&self.input) => {
                    self.half_close();
                    return self.poll_reset(cx);
                }
                Poll::Ready(_) => {
                    if !intake.finished {
                        intake.went_away();
                    }
                    return Err(End::Io);
                }
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    fn poll_slow(&mut self, cx: &mut Context<'_>, intake: &mut Intake) {
        let pace = intake.pacing.as_ref().map_or(Pace::Owed, Pacing::pace);
        let Some(rule) = self.context.body_rules.now(intake.said, pace) else {
            return intake.pace.pause();
        };
        if intake.pace.poll_too_slow(&rule, cx).is_ready() {
            self.context.counters.count(Cause::SlowBody);
            let why = "the request's body came too slowly";
            intake.fail(StatusCode::REQUEST_TIMEOUT, why, BodyError::TooSlow);
        }
    }
}
