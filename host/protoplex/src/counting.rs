//! The allocator of a program that counts what it allocates.

use mimalloc::MiMalloc;
use protoplex_telemetry::allocations;
use std::alloc::{GlobalAlloc, Layout};

/// Allocates as the usual program does, and counts.
pub struct Counting;

// SAFETY: every call goes on to mimalloc as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        allocations::note();
        // SAFETY: as the caller's.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller's.
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        allocations::note();
        // SAFETY: as the caller's.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        allocations::note();
        // SAFETY: as the caller's.
        unsafe { MiMalloc.realloc(pointer, layout, bytes) }
    }
}
