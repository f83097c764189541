//! A request's body on its way in: its framing, who waits for it, and how it failed.

use super::{
    body::{BodyDemand, BodyProducer},
    half_closed::is_end,
    head::RequestFraming,
    wire::{EarlyEnd, READ_BYTES, Wire, poll_read},
};
use crate::{
    HttpCause, Service, body_rules::BodyRules, refusal::HttpRefusal, silence::MutualSilence,
};
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use protoplex_http::{
    Body, BodyError, BodyPace, ClientPace, SharedPace,
    chunked::{ChunkDecoder, ChunkWriter, DecodedChunk},
};
use protoplex_net::{self as net, Duplex};
use std::task::{Context, Poll};
use tokio::time::Instant;

/// Most bytes of one read of a request's body.
pub(super) const PIECE_BYTES: usize = 64 << 10;

/// A request's body on its way in.
pub(super) struct Intake {
    source: RequestSource,
    pub(super) producer: BodyProducer,
    /// Whether the client waits for `100 Continue`.
    pub(super) owes_continue: bool,
    /// Whether nothing more of the body is read.
    pub(super) finished: bool,
    /// Refusal for a body that failed before there was a reply. The end of such a body is not known: the connection
    /// closes.
    pub(super) failed: Option<HttpRefusal>,
    pace: net::PaceMeter,
    /// Pace that the service asks for.
    said: Option<ClientPace>,
    /// Present for a body of unknown length: one of known length is owed to its end.
    pacing: Option<SharedPace>,
    /// Present while the service itself answers beside a body of unknown length.
    silence: Option<MutualSilence>,
    /// Time since which somebody waits for more of the body.
    awaited: Option<Instant>,
}

enum RequestSource {
    Length { whole: u64, left: u64 },
    Chunked(ChunkDecoder),
}

impl Intake {
    pub(super) fn new(framing: RequestFraming, expects_continue: bool) -> Self {
        let (source, finished) = match framing {
            RequestFraming::None => (RequestSource::Length { whole: 0, left: 0 }, true),
            RequestFraming::Length(whole) => (RequestSource::Length { whole, left: whole }, false),
            RequestFraming::Chunked => (
                RequestSource::Chunked(ChunkDecoder::new(ChunkWriter::Client)),
                false,
            ),
        };
        Self {
            source,
            producer: BodyProducer::new(!finished),
            owes_continue: expects_continue && !finished,
            finished,
            failed: None,
            pace: net::PaceMeter::default(),
            said: None,
            pacing: (framing == RequestFraming::Chunked).then(SharedPace::default),
            silence: None,
            awaited: None,
        }
    }

    /// Sets how fast the body has to come, as the service said when it was called.
    pub(super) fn set_pace(&mut self, said: Option<ClientPace>) {
        self.said = said;
    }

    /// Whether a node of ours sent the request, and judges its client.
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

    /// Notes that the response begins.
    pub(super) fn answered(&self) {
        if let Some(pacing) = &self.pacing {
            pacing.advance(BodyPace::Answered);
        }
    }

    /// Notes that the service itself answers while the body goes on: both may then be silent for no longer than the
    /// rules say.
    pub(super) fn converse(&mut self, rules: &BodyRules) {
        if self.pacing.is_some() && !self.finished {
            self.silence = Some(MutualSilence::new(rules.silence_max(self.said)));
        }
    }

    /// Notes that the service said something.
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

    /// Bytes of the body that are known to come.
    pub(super) fn announced(&self) -> u64 {
        match self.source {
            RequestSource::Length { left, .. } => left,
            RequestSource::Chunked(_) => 0,
        }
    }

    pub(super) fn decode(&mut self, input: &mut BytesMut) -> Result<DecodedChunk, &'static str> {
        match &mut self.source {
            RequestSource::Chunked(decoder) => decoder.decode(input),
            RequestSource::Length { left: 0, .. } => Ok(DecodedChunk::End),
            RequestSource::Length { .. } if input.is_empty() => Ok(DecodedChunk::NeedsMore),
            RequestSource::Length { left, .. } => {
                let most = usize::try_from(*left).unwrap_or(usize::MAX);
                let piece = input
                    .split_to(input.len().min(most).min(PIECE_BYTES))
                    .freeze();
                *left -= piece.len() as u64;
                Ok(DecodedChunk::Data(piece))
            }
        }
    }

    /// Whether `input`, after which nothing comes, holds the rest of the body, or shows what is wrong with it.
    fn is_settled_by(&self, input: &BytesMut) -> bool {
        match &self.source {
            RequestSource::Length { left, .. } => self.finished || *left <= input.len() as u64,
            RequestSource::Chunked(decoder) => {
                // The copy is at most a piece, and made only for a client that has said its last word.
                let (mut decoder, mut input) = (decoder.clone(), input.clone());
                self.finished
                    || loop {
                        match decoder.decode(&mut input) {
                            Ok(DecodedChunk::Data(_)) => {}
                            Ok(DecodedChunk::NeedsMore) => break false,
                            Ok(DecodedChunk::End) | Err(_) => break true,
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
        self.failed = Some(HttpRefusal(status, why));
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
    /// Reads what the service wants of the request's body, and watches for the client's end.
    pub(super) fn poll_intake(
        &mut self,
        cx: &mut Context<'_>,
        intake: &mut Intake,
    ) -> Result<(), EarlyEnd> {
        loop {
            if intake.finished || intake.producer.want(cx) != BodyDemand::More {
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
                Ok(DecodedChunk::Data(piece)) => intake.give(piece),
                Ok(DecodedChunk::End) => intake.end(),
                Err(why) => intake.malformed(why),
                Ok(DecodedChunk::NeedsMore) if self.is_half_closed() => {
                    intake.went_away();
                    return Err(EarlyEnd::Io);
                }
                Ok(DecodedChunk::NeedsMore) => {
                    match poll_read(&mut self.io, &mut self.input, PIECE_BYTES, cx) {
                        Poll::Ready(Ok(read)) if read > 0 => {
                            intake.pace.moved(read);
                            intake.awaited = None;
                        }
                        Poll::Ready(_) => {
                            intake.went_away();
                            return Err(EarlyEnd::Io);
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

    /// Reads up to a piece while nobody waits for the body, so that a client that aborts is noticed. One that has sent
    /// its whole request and ends its side still gets the reply.
    fn poll_ahead(&mut self, cx: &mut Context<'_>, intake: &mut Intake) -> Result<(), EarlyEnd> {
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
                    return Err(EarlyEnd::Io);
                }
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    fn poll_slow(&mut self, cx: &mut Context<'_>, intake: &mut Intake) {
        let pace = intake
            .pacing
            .as_ref()
            .map_or(BodyPace::Owed, SharedPace::pace);
        let Some(rule) = self.context.body_rules.now(intake.said, pace) else {
            return intake.pace.pause();
        };
        if intake.pace.poll_too_slow(&rule, cx).is_ready() {
            self.context.counters.count(HttpCause::SlowBody);
            let why = "the request's body came too slowly";
            intake.fail(StatusCode::REQUEST_TIMEOUT, why, BodyError::TooSlow);
        }
    }
}
