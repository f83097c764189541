//! Texts and lists that are read out of a guest's memory, and kept where they are small without an allocation.

use compact_str::CompactString;
use smallvec::SmallVec;
use std::{fmt, mem::MaybeUninit, ops::Deref};
use wasmtime::{
    Result,
    component::{
        __internal::{
            CanonicalAbiInfo, InstanceType, InterfaceType, LiftContext, LowerContext,
            wasmtime_environ::component::StringEncoding,
        },
        ComponentType, Lift, Lower, WasmList, WasmStr,
    },
};

/// Types of content that many responses have, and that are too long to be kept in place.
const USUAL_LONG: [&str; 3] = [
    "text/plain; charset=utf-8",
    "text/javascript; charset=utf-8",
    "application/json; charset=utf-8",
];

/// A `string`. Up to 24 bytes are kept in place, and those of [`USUAL_LONG`] are never copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text(CompactString);

impl Text {
    /// Turns the text into a `String`, by an allocation where it was kept in place.
    pub(crate) fn into_string(self) -> String {
        self.0.into()
    }
}

/// A `list`. Up to four entries are kept in place.
#[derive(Clone, Debug)]
pub struct Few<T>(SmallVec<[T; 4]>);

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        match USUAL_LONG.iter().find(|usual| **usual == text) {
            Some(usual) => Self(CompactString::const_new(usual)),
            None => Self(text.into()),
        }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(all: I) -> Self {
        Self(all.into_iter().collect())
    }
}

// SAFETY: the ABI and the type are those of `WasmStr`, which is asked for both.
unsafe impl ComponentType for Text {
    type Lower = <WasmStr as ComponentType>::Lower;

    const ABI: CanonicalAbiInfo = WasmStr::ABI;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> Result<()> {
        WasmStr::typecheck(ty, types)
    }
}

// SAFETY: each is read as `WasmStr` reads it, which checks bounds and takes the bytes from the store's allowance.
unsafe impl Lift for Text {
    fn linear_lift_from_flat(
        cx: &mut LiftContext<'_>,
        ty: InterfaceType,
        src: &Self::Lower,
    ) -> Result<Self> {
        WasmStr::linear_lift_from_flat(cx, ty, src)?;
        let [at, len] = src.map(|half| half.get_u32());
        match utf8(cx, at, len) {
            Some(text) => Ok(std::str::from_utf8(text)?.into()),
            None => Ok(Self(String::linear_lift_from_flat(cx, ty, src)?.into())),
        }
    }

    fn linear_lift_from_memory(
        cx: &mut LiftContext<'_>,
        ty: InterfaceType,
        bytes: &[u8],
    ) -> Result<Self> {
        WasmStr::linear_lift_from_memory(cx, ty, bytes)?;
        let half = |at: usize| bytes[at..at + 4].try_into().map(u32::from_le_bytes);
        match utf8(cx, half(0)?, half(4)?) {
            Some(text) => Ok(std::str::from_utf8(text)?.into()),
            None => Ok(Self(String::linear_lift_from_memory(cx, ty, bytes)?.into())),
        }
    }
}

// SAFETY: it is written as `str`, whose ABI is that of `WasmStr`.
unsafe impl Lower for Text {
    fn linear_lower_to_flat<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        dst: &mut MaybeUninit<Self::Lower>,
    ) -> Result<()> {
        str::linear_lower_to_flat(self, cx, ty, dst)
    }

    fn linear_lower_to_memory<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        offset: usize,
    ) -> Result<()> {
        str::linear_lower_to_memory(self, cx, ty, offset)
    }
}

/// The bytes of a string that a guest keeps as UTF-8, as Rust and C do. Others are read by wasmtime.
fn utf8<'a>(cx: &LiftContext<'a>, at: u32, len: u32) -> Option<&'a [u8]> {
    if cx.options().string_encoding != StringEncoding::Utf8 {
        return None;
    }
    let (at, len) = (usize::try_from(at).ok()?, usize::try_from(len).ok()?);
    cx.memory().get(at..at.checked_add(len)?)
}

// SAFETY: the ABI and the type are those of `WasmList`, which is asked for both.
unsafe impl<T: Lift> ComponentType for Few<T> {
    type Lower = <WasmList<T> as ComponentType>::Lower;

    const ABI: CanonicalAbiInfo = WasmList::<T>::ABI;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> Result<()> {
        WasmList::<T>::typecheck(ty, types)
    }
}

// SAFETY: each is read as `WasmList` reads it, and its entries as wasmtime reads those of a `Vec`.
unsafe impl<T: Lift> Lift for Few<T> {
    fn linear_lift_from_flat(
        cx: &mut LiftContext<'_>,
        ty: InterfaceType,
        src: &Self::Lower,
    ) -> Result<Self> {
        let list = WasmList::linear_lift_from_flat(cx, ty, src)?;
        entries(cx, &list)
    }

    fn linear_lift_from_memory(
        cx: &mut LiftContext<'_>,
        ty: InterfaceType,
        bytes: &[u8],
    ) -> Result<Self> {
        let list = WasmList::linear_lift_from_memory(cx, ty, bytes)?;
        entries(cx, &list)
    }
}

fn entries<T: Lift>(cx: &mut LiftContext<'_>, list: &WasmList<T>) -> Result<Few<T>> {
    let mut entries = SmallVec::new();
    T::linear_lift_into_from_memory(cx, list, &mut entries)?;
    Ok(Few(entries))
}
