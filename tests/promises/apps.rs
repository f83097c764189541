//! App handlers behind the real program: streaming, framing, outgoing requests, languages.
