//! Driving an instance: a future that runs a request in it, and those that join, until the guest has nothing left to
//! do and every body has ended. Whoever holds it polls it: the connection of the first request, or a task.

use super::{
    instance::{AppInstance, Instances},
    joint::{Incoming, Joint, OpenBody, Step},
    state::AppState,
    track::RequestTrack,
};
use crate::{HandlerError, cpu::CpuMeter, error_of, interfaces::outgoing::Death};
use futures::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};
use tokio::sync::oneshot;
use wasmtime::{
    AsContextMut, Result,
    component::{Accessor, Func},
};
use wasmtime_wasi_http::{
    WasiBody, WasiHttpView,
    handler::Proxy,
    p2::bindings::http::types::Scheme,
    p3::{Request, bindings::http::types as p3},
};

/// Runs requests in one instance while it is polled. Dropping it throws the instance away.
pub(super) struct Drive {
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    pub(super) joint: Arc<Joint>,
}

impl Drive {
    /// Begins with one request, in an idle instance or a new one.
    pub(super) fn new(
        instances: &Arc<Instances>,
        idle: Option<AppInstance>,
        first: Incoming,
    ) -> Self {
        let factory = &instances.factory;
        let served = idle.as_ref().map_or(0, |instance| instance.served);
        let joint = Joint::new(
            factory.concurrency(),
            factory.requests_max(),
            served,
            &first.track,
        );
        let joint = Arc::new(joint);
        let future = run(Arc::clone(instances), idle, Arc::clone(&joint), first);
        Self {
            future: Box::pin(future),
            joint,
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.future.as_mut().poll(cx)
    }
}

/// Tells the requests of an instance that dies without a word, because its driver panicked or was dropped; and, of any
/// death, those to whom the guest was sending something.
struct LastWords<'a> {
    joint: &'a Joint,
    death: Option<Death>,
}

impl Drop for LastWords<'_> {
    fn drop(&mut self) {
        if let Some(death) = &self.death {
            death.happened();
        }
        let stopped = |_: &RequestTrack| HandlerError::Trap("the instance was stopped".into());
        self.joint.died(stopped);
    }
}

async fn run(
    instances: Arc<Instances>,
    idle: Option<AppInstance>,
    joint: Arc<Joint>,
    first: Incoming,
) {
    let mut instance = match idle {
        Some(instance) => instance,
        None => match instances.factory.instantiate().await {
            Ok(instance) => instance,
            Err(error) => {
                let hit = first.track.take_hit();
                let error = error_of::instantiation(&error, &instances.factory.guest.limits, hit);
                joint.failed(&first.track);
                // Nobody may be left to hear it.
                let _ = first.answer.send(Err(error));
                return;
            }
        },
    };
    // Declared after the store, so it speaks before a body can see its end.
    let mut last_words = LastWords {
        joint: &joint,
        death: Some(instance.store.data().death()),
    };
    match serve(&instances, &mut instance, &joint, first).await {
        Ok(()) => {
            last_words.death = None;
            instance.served = joint.served();
            if instance.served < instances.factory.requests_max() {
                instances.idle.put(instance);
            }
        }
        Err(error) => {
            tracing::debug!(
                handler = &*instances.factory.guest.name,
                error = format!("{error:#}"),
                "an app instance failed, and was discarded"
            );
            joint.died(|track| {
                error_of::call(&error, &instances.factory.guest.limits, track.take_hit())
            });
        }
    }
    drop(last_words);
}

async fn serve(
    instances: &Instances,
    instance: &mut AppInstance,
    joint: &Arc<Joint>,
    first: Incoming,
) -> Result<()> {
    let proxy = &instance.proxy;
    let func = entry(proxy);
    let shares = instances.factory.concurrency() > 1;
    let meter = instance.store.data().meter.clone();
    let run = instance.store.run_concurrent(async |accessor| {
        let call = |incoming| call(accessor, proxy, joint, incoming);
        let mut first = pin!(call(first));
        let mut first_runs = true;
        // Mostly there are none.
        let mut others: Option<FuturesUnordered<_>> = None;
        poll_fn(|cx| {
            loop {
                if first_runs && let Poll::Ready(done) = first.as_mut().poll(cx) {
                    first_runs = false;
                    done?;
                }
                if let Some(running) = &mut others {
                    while let Poll::Ready(Some(done)) = running.poll_next_unpin(cx) {
                        done?;
                    }
                }
                let idle = !first_runs && others.as_ref().is_none_or(FuturesUnordered::is_empty);
                let quiet = idle && accessor.poll_no_interesting_tasks(cx).is_ready();
                let may_join =
                    shares && accessor.poll_ready_for_concurrent_call(func, cx).is_ready();
                match joint.next(cx, quiet, may_join) {
                    Step::Take(incoming) => {
                        others.get_or_insert_default().push(call(*incoming));
                    }
                    Step::Wait => return Poll::Pending,
                    Step::End => return Poll::Ready(Ok(())),
                }
            }
        })
        .await
    });
    let mut run = pin!(run);
    let run = poll_fn(|cx| {
        let polled = run.as_mut().poll(cx);
        if polled.is_pending() && joint.note_wait() {
            return run.as_mut().poll(cx);
        }
        polled
    });
    meter.measure(run).await?
}

fn entry(proxy: &Proxy) -> Func {
    match proxy {
        Proxy::P3(guest) => *guest.wasi_http_handler().func_handle().func(),
        Proxy::P2(guest) => *guest.wasi_http_incoming_handler().func_handle().func(),
    }
}

/// Calls the guest. An error ends the instance; one that the guest answers with is an answer.
async fn call(
    accessor: &Accessor<AppState>,
    proxy: &Proxy,
    joint: &Arc<Joint>,
    incoming: Incoming,
) -> Result<()> {
    let Incoming {
        request,
        track,
        answer,
    } = incoming;
    let meter = accessor.with(|mut access| {
        let mut store = access.as_context_mut();
        // A tick that came while the instance was idle is none of this request's.
        store.set_epoch_deadline(1);
        let state = store.data_mut();
        state.meter.reset();
        state.limiter.report_to(&track);
        state.meter.clone()
    });
    let answer = Answering {
        track,
        joint: Arc::clone(joint),
        meter,
        answer: Some(answer),
    };
    match proxy {
        Proxy::P3(guest) => call_p3(accessor, guest, request, answer).await,
        Proxy::P2(guest) => call_p2(accessor, guest, request, answer).await,
    }
}

async fn call_p3(
    accessor: &Accessor<AppState>,
    guest: &wasmtime_wasi_http::p3::bindings::Service,
    request: http::Request<WasiBody>,
    mut answer: Answering,
) -> Result<()> {
    let (request, sent) = accessor.with(|mut access| {
        let view = access.get().http();
        let (request, sent) = Request::from_http(view.hooks, request);
        // Boxed, because the type by itself borrows the hooks.
        let sent: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(sent);
        Result::<_>::Ok((view.table.push(request)?, sent))
    })?;
    let handle = guest.wasi_http_handler().func_handle();
    let (response,) = handle.call_concurrent(accessor, (request,)).await?;
    match response {
        Ok(response) => {
            let response = accessor.with(|mut access| {
                let response = access.get().http().table.delete(response)?;
                response.into_http(&mut access, sent)
            })?;
            answer.respond(response);
        }
        Err(code) => answer.fail(guest_error(&code)),
    }
    Ok(())
}

fn guest_error(code: &p3::ErrorCode) -> HandlerError {
    HandlerError::Guest(wasmtime_wasi_http::Error::from(code.clone()).to_string())
}

async fn call_p2(
    accessor: &Accessor<AppState>,
    guest: &wasmtime_wasi_http::p2::bindings::Proxy,
    request: http::Request<WasiBody>,
    answer: Answering,
) -> Result<()> {
    // The guest sets its response in the middle of its work, and goes on.
    let answer = Arc::new(Mutex::new(answer));
    let (request, out) = accessor.with(|mut access| {
        let mut view = access.get().http();
        let scheme = match request.uri().scheme_str() {
            Some("https") => Scheme::Https,
            _ => Scheme::Http,
        };
        let request = view.new_incoming_request(scheme, request)?;
        let answer = Arc::clone(&answer);
        let out = view.new_response_outparam_from_callback(move |response| {
            let mut answer = answer.lock();
            match response {
                Ok(response) => answer.respond(response),
                Err(code) => {
                    let text = wasmtime_wasi_http::Error::from(code).to_string();
                    answer.fail(HandlerError::Guest(text));
                }
            }
        })?;
        Result::<_>::Ok((request, out))
    })?;
    let handle = guest.wasi_http_incoming_handler().func_handle();
    handle.call_concurrent(accessor, (request, out)).await?;
    let unset = || HandlerError::Trap("the guest returned without a response".into());
    answer.lock().fail(unset());
    Ok(())
}

/// Takes the response of one request.
struct Answering {
    track: Arc<RequestTrack>,
    joint: Arc<Joint>,
    meter: CpuMeter,
    answer: Option<oneshot::Sender<Result<http::Response<OpenBody>, HandlerError>>>,
}

impl Answering {
    fn respond(&mut self, response: http::Response<WasiBody>) {
        if let Some(answer) = self.answer.take() {
            let track = Arc::clone(&self.track);
            let joint = Arc::clone(&self.joint);
            let response = response.map(|body| OpenBody::new(body, track, joint));
            self.note_head();
            // Nobody may be left to take it; its body then ends here.
            let _ = answer.send(Ok(response));
        }
    }

    fn fail(&mut self, error: HandlerError) {
        if let Some(answer) = self.answer.take() {
            self.joint.failed(&self.track);
            self.note_head();
            let _ = answer.send(Err(error));
        }
    }

    fn note_head(&self) {
        if !self.joint.awaits_head() {
            self.meter.give_back();
        }
    }
}
