//! The host's side of what guests import: a file for each interface, for all worlds that import it.

mod channels;
mod clock;
mod connection;
mod log;
pub(crate) mod outgoing;
pub(crate) mod output;
mod random;
mod request;
mod settings;
mod types;

use crate::{decision::Text, state::HostState};
use wasmtime::{Result, StoreContextMut, component::Linker};

/// Links the functions of `protoplex:host` that handlers call for nearly every request once more, by texts that need no
/// allocation. Bindings are generated with `String`s, and each of them costs one.
pub(crate) fn link_short_texts<T: 'static>(
    linker: &mut Linker<T>,
    state: fn(&mut T) -> &mut HostState,
) -> Result<()> {
    linker.allow_shadowing(true);
    let mut request = linker.instance("protoplex:host/request@0.1.0")?;
    request.func_wrap(
        "header",
        move |mut store: StoreContextMut<'_, T>, (name,): (Text,)| {
            Ok((state(store.data_mut()).header_value(&name),))
        },
    )?;
    let mut settings = linker.instance("protoplex:host/settings@0.1.0")?;
    settings.func_wrap(
        "get",
        move |mut store: StoreContextMut<'_, T>, (name,): (Text,)| {
            Ok((state(store.data_mut()).setting(&name),))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}
