use super::*;
use std::io::Read as _;

#[test]
fn gzip_is_made_where_it_pays_and_is_the_same_every_time() {
    let text = "all work and no play ".repeat(100);
    let coded = gzip("text/plain; charset=utf-8", text.as_bytes()).expect("it pays");
    assert_eq!(
        Some(&coded),
        gzip("text/plain; charset=utf-8", text.as_bytes()).as_ref()
    );
    assert_eq!(coded[4..8], [0; 4], "no time in it");
    let mut back = String::new();
    let mut decoder = flate2::read::GzDecoder::new(&coded[..]);
    decoder.read_to_string(&mut back).expect("gzip");
    assert_eq!(back, text);
}

#[test]
fn gzip_is_left_out_where_it_does_not_pay() {
    let text = "a".repeat(GZIP_BYTES_MIN - 1);
    assert!(gzip("text/plain", text.as_bytes()).is_none(), "too small");
    let text = "a".repeat(1000);
    assert!(
        gzip("image/png", text.as_bytes()).is_none(),
        "coded already"
    );
    let noise: Vec<u8> = (0_u32..500)
        .flat_map(|i| Digest::of(&i.to_le_bytes()).as_bytes()[..2].to_vec())
        .collect();
    assert!(gzip("text/plain", &noise).is_none(), "saves nothing");
}

#[test]
fn types_follow_the_name_and_promise_utf8_only_where_it_is() {
    let typed = |path, content: &[u8]| content_type(path, content);
    assert_eq!(typed("/a.html", b"x"), "text/html; charset=utf-8");
    assert_eq!(typed("/a.html", b"\xff"), "text/html");
    assert_eq!(typed("/a.JS", b"x"), "text/javascript; charset=utf-8");
    assert_eq!(typed("/a.wasm", b"x"), "application/wasm");
    assert_eq!(typed("/a.b/readme", b"x"), "application/octet-stream");
    assert_eq!(typed("/a.png", b"x"), "image/png");
}

#[test]
fn a_folder_gives_its_files_and_its_index_but_no_leftovers() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(folder.path().join("docs/.well-known")).expect("folders");
    for name in [
        "index.html",
        "docs/index.html",
        "docs/a~",
        ".DS_Store",
        "docs/.well-known/x",
    ] {
        fs::write(folder.path().join(name), name).expect("a file");
    }
    let collected = collect(folder.path(), "/s/");
    let paths: Vec<_> = collected.assets.keys().map(String::as_str).collect();
    assert_eq!(
        paths,
        [
            "/s/",
            "/s/docs/",
            "/s/docs/.well-known/x",
            "/s/docs/index.html",
            "/s/index.html"
        ]
    );
    assert!(collected.faults.is_empty());
}

#[test]
fn a_symbolic_link_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::symlink("/etc/hostname", folder.path().join("leak")).expect("a link");
    let collected = collect(folder.path(), "/");
    assert_eq!(collected.faults.len(), 1);
    assert!(collected.assets.is_empty());
}

#[test]
fn hidden_files_are_left_out_but_what_is_well_known() {
    let folder = tempfile::tempdir().expect("a folder");
    for part in [".git/x", "a/.ssh/x", ".well-known/acme/x"] {
        let file = folder.path().join(part);
        fs::create_dir_all(file.parent().expect("a folder")).expect("folders");
        fs::write(file, "x").expect("a file");
    }
    for name in [".env", "a/.htpasswd", ".well-known/.hidden", "a/b.txt"] {
        fs::write(folder.path().join(name), "x").expect("a file");
    }
    let collected = collect(folder.path(), "/");
    let paths: Vec<_> = collected.assets.keys().map(String::as_str).collect();
    assert_eq!(paths, ["/.well-known/acme/x", "/a/b.txt"]);
    assert!(collected.faults.is_empty(), "{:?}", collected.faults);
}

#[test]
fn what_looks_like_a_secret_is_refused_by_name() {
    let key = "-----BEGIN EC PRIVATE KEY-----\nMHc=\n-----END EC PRIVATE KEY-----\n";
    let pgp =
        "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQ==\n-----END PGP PRIVATE KEY BLOCK-----\n";
    let public =
        "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQ==\n-----END PGP PUBLIC KEY BLOCK-----\n";
    let certificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    for (name, content, is_secret) in [
        ("server.key", "anything", true),
        ("server.pem", key, true),
        ("docs/key.txt", key, true),
        ("store.P12", "x", true),
        ("production.env", "PASSWORD=1", true),
        ("id_ed25519", "x", true),
        ("id_ed25519.pub", "ssh-ed25519 AAAA", false),
        ("backup.asc", pgp, true),
        ("packages.key", public, false),
        ("ca.pem", certificate, false),
        ("talk.key", "PK\u{3}\u{4}", false),
        ("keys.html", "<pre>-----BEGIN PRIVATE KEY-----</pre>", false),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join(name);
        fs::create_dir_all(file.parent().expect("a folder")).expect("folders");
        fs::write(&file, content).expect("a file");
        let collected = collect(folder.path(), "/");
        assert_eq!(collected.assets.is_empty(), is_secret, "{name}");
        let named = collected.faults.iter().any(|fault| fault.contains(name));
        assert_eq!(named, is_secret, "{name}: {:?}", collected.faults);
    }
}

#[test]
fn a_file_above_the_limit_is_refused_unread() {
    let site = tempfile::tempdir().expect("a folder");
    let file = fs::File::create(site.path().join("big")).expect("made");
    // Reading that much would take all memory.
    file.set_len(1 << 40).expect("a terabyte of nothing");
    let faults = collect(site.path(), "/").faults;
    assert!(
        faults[0].contains("larger than 268435456 bytes"),
        "{faults:?}"
    );
}

#[test]
fn two_files_with_one_path_in_urls_are_refused() {
    let site = tempfile::tempdir().expect("a folder");
    let write = |name: &str| fs::write(site.path().join(name), name).expect("written");
    for name in ["a b.txt", "100%.txt", "50%25.txt"] {
        write(name);
    }
    assert_eq!(collect(site.path(), "/").faults, [""; 0]);
    write("a%20b.txt");
    let faults = collect(site.path(), "/").faults;
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(
        faults[0].contains("`/a b.txt` and `/a%20b.txt`"),
        "{faults:?}"
    );
}
