//! Manifests, indexes and configs that are hostile or odd (catalogue RG-06 to RG-09, 2b).

use puller::Error;
use serde_json::{Value, json};

use crate::fixture::*;
use crate::mock::{Request, Server, Site};
use crate::sink::sha256;

/// Serves `body` as the manifest of `v1`, beside all that `site` has.
fn serving(mut site: Site, media_type: &str, body: impl Into<Vec<u8>>) -> Server {
    site.put(&manifest("v1"), media_type, body);
    Server::start(move |r, c| site.serve(r, c))
}

fn index(entries: &[Value]) -> Value {
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
}

#[test]
fn digests_that_could_leave_a_path_are_refused() {
    let hex = "a".repeat(64);
    for digest in [
        "sha256:../../x".to_owned(),
        format!("sha256:{}", hex.to_uppercase()),
        format!("sha256:{}", &hex[1..]),
        format!("sha256:{hex}a"),
        "sha256:".to_owned(),
        format!("md5:{}", &hex[..32]),
        format!("../../{hex}"),
        hex.clone(),
        String::new(),
    ] {
        for at in ["/config/digest", "/layers/0/digest"] {
            let mut image = Image::new(&[b"one"]);
            *image.manifest.pointer_mut(at).unwrap() = json!(digest);
            let server = serving(image.site(), MANIFEST, image.bytes());
            let outcome = pull(&server);
            assert!(matches!(outcome.bad(&["digest"]), Error::Document { .. }), "{digest}");
            assert_eq!(server.count(Request::is_blob), 0, "{digest}");
        }
        let mut image = Image::new(&[b"one"]);
        image.config["rootfs"]["diff_ids"] = json!([digest]);
        let config = image.config.to_string();
        image.manifest["config"]["digest"] = json!(sha256(config.as_bytes()));
        image.manifest["config"]["size"] = json!(config.len());
        let server = serving(image.site(), MANIFEST, image.bytes());
        pull(&server).bad(&["invalid config", "diff_ids"]);
    }
}

#[test]
fn documents_that_are_two_things_at_once_are_ambiguous() {
    let image = Image::new(&[b"one"]);
    let with = |key: &str, value: Value| {
        let mut manifest = image.manifest.clone();
        manifest[key] = value;
        manifest.to_string()
    };
    let text = image.manifest.to_string();
    let doubled = text.replacen('{', "{\"layers\":[],", 1);
    let escaped = text.replacen('{', "{\"l\\u0061yers\":[],", 1);
    let layers_upper = text.replace("\"layers\"", "\"Layers\"");
    let both_cases = with("LAYERS", json!([]));
    let inner = text.replacen("\"digest\"", "\"Digest\":\"x\",\"digest\"", 1);
    let cases = [
        (MANIFEST, with("manifests", json!([]))),
        (MANIFEST, with("fsLayers", json!([]))),
        (INDEX, text.clone()),
        (MANIFEST, with("mediaType", json!(INDEX))),
        (MANIFEST, doubled),
        (MANIFEST, escaped),
        (MANIFEST, layers_upper),
        (MANIFEST, both_cases),
        (MANIFEST, inner),
        (MANIFEST, index(&[image.descriptor()]).to_string()),
    ];
    for (media_type, body) in cases {
        let outcome = pull(&serving(image.site(), media_type, body.clone()));
        assert!(matches!(outcome.bad(&["ambiguous"]), Error::Document { .. }), "{body}");
    }
}

#[test]
fn a_content_type_that_says_nothing_does_not_matter() {
    let image = Image::new(&[b"one"]);
    for media_type in
        ["text/plain", "application/json", "application/octet-stream", &format!("{MANIFEST}; charset=utf-8")]
    {
        pull(&serving(image.site(), media_type, image.bytes())).good(&image);
    }
    let mut image = image;
    image.manifest.as_object_mut().unwrap().remove("mediaType");
    for media_type in ["text/plain", MANIFEST] {
        pull(&serving(image.site(), media_type, image.bytes())).good(&image);
    }
    let site = image.site();
    let server = Server::start(move |r, c| {
        if r.is_manifest() { c.reply(200, &[], &site.0[r.bare()].1) } else { site.serve(r, c) }
    });
    pull(&server).good(&image);
}

#[test]
fn malformed_documents_are_errors_and_never_panics() {
    let image = Image::new(&[b"one"]);
    let with = |at: &str, value: Value| {
        let mut manifest = image.manifest.clone();
        *manifest.pointer_mut(at).unwrap() = value;
        manifest.to_string()
    };
    let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"".to_vec(), "not JSON"),
        (b"<html>login</html>".to_vec(), "not JSON"),
        (b"null".to_vec(), "not a JSON object"),
        (b"[]".to_vec(), "not a JSON object"),
        (b"{}".to_vec(), "schemaVersion"),
        (b"\xef\xbb\xbf{}".to_vec(), "not JSON"),
        (b"{\"schemaVersion\":2}".to_vec(), "neither"),
        (format!("{} x", image.manifest).into_bytes(), "not JSON"),
        (deep.into_bytes(), "not JSON"),
        (b"{\"schemaVersion\":2,\"mediaType\":\"\xff\xfe\"}".to_vec(), "not JSON"),
        (with("/schemaVersion", json!(3)).into(), "schemaVersion"),
        (with("/schemaVersion", json!("2")).into(), "schemaVersion"),
        (with("/mediaType", json!(7)).into(), "mediaType"),
        (with("/layers", Value::Null).into(), "at layers"),
        (with("/layers", json!({})).into(), "at layers"),
        (with("/layers/0", Value::Null).into(), "at layers[0]"),
        (with("/config", Value::Null).into(), "at config"),
        (with("/config", json!([])).into(), "at config"),
        (with("/layers/0/size", json!(-1)).into(), "size"),
        (with("/layers/0/size", json!(1.5)).into(), "size"),
        (with("/layers/0/size", json!("3")).into(), "size"),
        (with("/layers/0/size", json!(1u64 << 63)).into(), "size"),
        (with("/layers/0/mediaType", json!("application/x-thing")).into(), "no type of a layer"),
        (with("/config/size", json!(1u64 << 40)).into(), "at most"),
        (image.manifest.to_string().replace("\"size\":3", "\"size\":18446744073709551616").into(), "size"),
        (image.manifest.to_string().replace("\"size\":3", "\"size\":1e400").into(), "not JSON"),
    ];
    for (body, word) in cases {
        let shown = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
        let outcome = pull(&serving(image.site(), "application/json", body));
        assert!(matches!(outcome.bad(&[word]), Error::Document { .. }), "{shown}");
    }
}

#[test]
fn malformed_configs_are_errors_with_their_path() {
    let d = sha256(b"x");
    for (config, word) in [
        ("null".to_owned(), "not a JSON object"),
        ("{}".to_owned(), "rootfs"),
        ("{\"rootfs\":null}".to_owned(), "rootfs"),
        ("{\"rootfs\":{\"diff_ids\":\"x\"}}".to_owned(), "at rootfs.diff_ids"),
        ("{\"rootfs\":{\"diff_ids\":[null]}}".to_owned(), "at rootfs.diff_ids[0]"),
        ("{\"rootfs\":{\"diff_ids\":null}}".to_owned(), "0 DiffIDs for 1 layers"),
        (format!("{{\"rootfs\":{{\"diff_ids\":[\"{d}\",\"{d}\"]}}}}"), "2 DiffIDs for 1 layers"),
        (format!("{{\"rootfs\":{{\"diff_ids\":[\"{d}\"]}},\"rootfs\":{{}}}}"), "twice"),
        ("{\"rootfs\":{\"diff_ids\":[1e3]}}".to_owned(), "at rootfs.diff_ids[0]"),
    ] {
        let mut image = Image::new(&[b"one"]);
        image.manifest["config"]["digest"] = json!(sha256(config.as_bytes()));
        image.manifest["config"]["size"] = json!(config.len());
        let mut site = image.site();
        site.put(&blob(&sha256(config.as_bytes())), BLOB, config.clone());
        pull(&serving(site, MANIFEST, image.bytes())).bad(&["invalid config", word]);
    }
}

#[test]
fn what_is_no_container_image_is_named() {
    let image = Image::new(&[b"one"]);
    let with = |changes: &[(&str, Value)]| {
        let mut manifest = image.manifest.clone();
        for (at, value) in changes {
            *manifest.pointer_mut(at).unwrap() = value.clone();
        }
        manifest
    };
    let helm = with(&[("/config/mediaType", json!("application/vnd.cncf.helm.config.v1+json"))]);
    let mut artifact = with(&[("/config/mediaType", json!("application/vnd.oci.empty.v1+json"))]);
    artifact["artifactType"] = json!("application/vnd.example.sbom");
    let encrypted =
        with(&[("/layers/0/mediaType", json!("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"))]);
    let schema1 = json!({"schemaVersion": 1, "name": "x", "tag": "v1", "fsLayers": [], "history": [], "signatures": []});
    for (manifest, words) in [
        (helm, ["no container image", "helm.config"]),
        (artifact, ["no container image", "example.sbom"]),
        (encrypted, ["layer is encrypted", "layers[0]"]),
        (schema1, ["schema 1", "push the image again"]),
    ] {
        pull(&serving(image.site(), "application/json", manifest.to_string())).bad(&words);
    }
}

#[test]
fn a_huge_manifest_is_not_taken_into_memory() {
    let site = Image::new(&[b"one"]).site();
    let server = Server::start(move |r, c| {
        if !r.is_manifest() {
            return site.serve(r, c);
        }
        // A gigabyte, unannounced.
        c.head(200, &[("Transfer-Encoding", "chunked")]);
        for _ in 0..16_384 {
            if !c.write(&[b"10000\r\n", &[b' '; 65_536][..], b"\r\n"].concat()) {
                return;
            }
        }
    });
    pull(&server).bad(&["wrong size", "4194304"]);
    assert!(server.sent() < 32 << 20, "{} bytes were taken", server.sent());

    let server = Server::start(|_, c| c.head(200, &[("Content-Length", "1073741824")]));
    let outcome = pull(&server);
    outcome.bad(&["wrong size"]);
    assert!(outcome.took.as_millis() < 2000);
}

#[test]
fn an_index_yields_the_manifest_for_the_platform() {
    let (arm, amd) = (Image::of("arm64", &[b"arm"]), Image::new(&[b"amd"]));
    let attestation = {
        let mut d = Image::of("unknown", &[b"att"]).descriptor();
        d["platform"] = json!({"os": "unknown", "architecture": "unknown"});
        d
    };
    let list = index(&[attestation, arm.descriptor(), amd.descriptor()]);
    let mut site = amd.site();
    arm.put(&mut site);
    let server = serving(site, INDEX, list.to_string());
    let outcome = pull(&server).good(&amd);
    assert_eq!(outcome.result.as_ref().unwrap().pinned, Some(sha256(list.to_string().as_bytes())));
    assert!(
        outcome.state().documents.contains_key(&sha256(list.to_string().as_bytes())),
        "the index is kept"
    );
    let mut request = request(&format!("{}/{REPO}:v1", server.host()));
    request.platform = Some(platform("linux/arm64/v8"));
    run(&request).good(&arm);
    request.platform = Some(platform("linux/s390x"));
    let outcome = run(&request);
    outcome.bad(&["no image for linux/s390x", "it offers linux/amd64, linux/arm64"]);
}

#[test]
fn variants_rank_and_the_first_of_two_equals_wins() {
    let images: Vec<Image> = [b"v5", b"v6", b"v7"].iter().map(|l| Image::of("arm", &[*l])).collect();
    let entry = |image: &Image, variant: &str| {
        let mut d = image.descriptor();
        d["platform"]["variant"] = json!(variant);
        d
    };
    let second = Image::of("arm", &[b"another v6"]);
    let list = index(&[
        entry(&images[0], "v5"),
        entry(&images[1], "v6"),
        entry(&second, "v6"),
        entry(&images[2], "v7"),
    ]);
    let mut site = second.site();
    images.iter().for_each(|i| i.put(&mut site));
    let server = serving(site, INDEX, list.to_string());
    let mut request = request(&format!("{}/{REPO}:v1", server.host()));
    for (want, image) in
        [("linux/arm/v5", &images[0]), ("linux/arm/v6", &images[1]), ("linux/arm", &images[2])]
    {
        request.platform = Some(platform(want));
        run(&request).good(image);
    }
}

#[test]
fn an_index_of_nothing_for_anybody_says_so() {
    let att = json!({"os": "unknown", "architecture": "unknown"});
    let mut entry = Image::new(&[b"x"]).descriptor();
    entry["platform"] = att;
    for list in [index(&[]), index(&[entry])] {
        pull(&serving(Site::default(), INDEX, list.to_string())).bad(&["it offers no platform at all"]);
    }
}

#[test]
fn entries_without_a_platform_are_judged_by_their_config() {
    let (arm, amd) = (Image::of("arm64", &[b"arm"]), Image::new(&[b"amd"]));
    let bare = |image: &Image| {
        let mut d = image.descriptor();
        d.as_object_mut().unwrap().remove("platform");
        d
    };
    let mut site = amd.site();
    arm.put(&mut site);
    let list = index(&[bare(&arm), bare(&amd)]).to_string();
    pull(&serving(site.clone(), INDEX, list)).good(&amd);
    let list = index(&[bare(&arm)]).to_string();
    pull(&serving(site, INDEX, list)).bad(&["no image for linux/amd64", "offers linux/arm64"]);
}

#[test]
fn nested_indexes_are_followed_three_deep_and_no_further() {
    let image = Image::new(&[b"one"]);
    let nest = |depth: usize| {
        let mut site = image.site();
        let mut list = index(&[image.descriptor()]);
        for _ in 1..depth {
            let bytes = list.to_string();
            let digest = sha256(bytes.as_bytes());
            site.put(&manifest(digest.as_str()), INDEX, bytes.clone());
            list = index(&[json!({"mediaType": INDEX, "digest": digest, "size": bytes.len()})]);
        }
        serving(site, INDEX, list.to_string())
    };
    pull(&nest(3)).good(&image);
    for depth in [4, 50] {
        let server = nest(depth);
        pull(&server).bad(&["nested more than 3 deep"]);
        assert!(server.requests().len() < 6);
    }
}

#[test]
fn an_index_cannot_make_a_pull_fetch_without_end() {
    // A million entries: refused by count. A thousand without platform: given up after a few.
    let arm = Image::of("arm64", &[b"arm"]);
    let entry = |n: usize| json!({"mediaType": MANIFEST, "digest": sha256(&n.to_le_bytes()), "size": 5});
    let many: Vec<Value> = (0..1001).map(entry).collect();
    let server = serving(Site::default(), INDEX, index(&many).to_string());
    pull(&server).bad(&["1001 entries"]);

    let mut site = Site::default();
    let mut entries = Vec::new();
    for n in 0..200 {
        let mut image = arm.clone();
        image.manifest["annotations"] = json!({"n": n.to_string()});
        image.put(&mut site);
        let mut d = image.descriptor();
        d.as_object_mut().unwrap().remove("platform");
        entries.push(d);
    }
    let server = serving(site.clone(), INDEX, index(&entries).to_string());
    pull(&server).bad(&["more than 32 manifests"]);
    assert!(server.requests().len() <= 65);

    // The same child over and over is one child.
    let same: Vec<Value> = (0..900).map(|_| entries[0].clone()).collect();
    let server = serving(site, INDEX, index(&same).to_string());
    pull(&server).bad(&["no image for linux/amd64"]);
    assert!(server.requests().len() < 5);
}

#[test]
fn children_of_an_index_are_verified() {
    let image = Image::new(&[b"one"]);
    let mut site = image.site();
    let mut swapped = image.clone();
    swapped.manifest["annotations"] = json!({"x": "y"});
    site.put(&manifest(image.digest().as_str()), MANIFEST, swapped.bytes());
    pull(&serving(site, INDEX, index(&[image.descriptor()]).to_string())).bad(&["wrong digest"]);

    let mut entry = image.descriptor();
    entry["size"] = json!(image.bytes().len() + 1);
    pull(&serving(image.site(), INDEX, index(&[entry]).to_string())).bad(&["wrong size"]);

    // A child that is gone.
    let gone = Image::new(&[b"gone"]);
    let outcome = pull(&serving(image.site(), INDEX, index(&[gone.descriptor()]).to_string()));
    outcome.bad(&[gone.digest().as_str(), "MANIFEST_UNKNOWN"]);
}

#[test]
fn an_entry_that_is_not_what_its_index_says_is_ambiguous() {
    let image = Image::new(&[b"one"]);
    let inner = index(&[image.descriptor()]).to_string();
    let digest = sha256(inner.as_bytes());
    let mut site = image.site();
    site.put(&manifest(digest.as_str()), INDEX, inner.clone());
    let entry = json!({"mediaType": MANIFEST, "digest": digest, "size": inner.len(), "platform": {"os": "linux", "architecture": "amd64"}});
    pull(&serving(site, INDEX, index(&[entry]).to_string())).bad(&["ambiguous"]);
}

#[test]
fn embedded_data_is_used_if_it_is_right_and_refused_if_not() {
    use base64::Engine;
    let base64 = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let image = Image::new(&[b"one"]);
    let config = image.config.to_string();
    let mut good = image.clone();
    good.manifest["config"]["data"] = json!(base64(config.as_bytes()));
    let mut site = good.site();
    site.0.remove(&blob(&sha256(config.as_bytes())));
    pull(&serving(site.clone(), MANIFEST, good.bytes())).good(&good);
    for (data, word) in [
        (base64(config.replace("amd64", "amd65").as_bytes()), "its digest is"),
        (base64(b"short"), "it has 5 bytes"),
        ("***".to_owned(), "not base64"),
    ] {
        let mut bad = image.clone();
        bad.manifest["config"]["data"] = json!(data);
        pull(&serving(site.clone(), MANIFEST, bad.bytes())).bad(&["at config.data", word]);
    }
    let mut bad = image.clone();
    bad.manifest["layers"][0]["data"] = json!(base64(b"two"));
    pull(&serving(site, MANIFEST, bad.bytes())).bad(&["at layers[0].data"]);
}

#[test]
fn a_single_image_for_another_platform_is_an_error_only_if_one_was_asked_for() {
    let image = Image::of("riscv64", &[b"one"]);
    let server = serving(image.site(), MANIFEST, image.bytes());
    let mut request = request(&format!("{}/{REPO}:v1", server.host()));
    run(&request).bad(&["no image for linux/amd64", "linux/riscv64"]);
    request.platform = None;
    let outcome = run(&request).good(&image);
    assert!(outcome.warnings()[0].contains("linux/riscv64"), "{:?}", outcome.warnings());
    // A config that leaves it open suits everybody.
    let mut image = Image::of("", &[b"one"]);
    image.config["os"] = json!("");
    let config = image.config.to_string();
    image.manifest["config"]["digest"] = json!(sha256(config.as_bytes()));
    image.manifest["config"]["size"] = json!(config.len());
    pull(&serving(image.site(), MANIFEST, image.bytes())).good(&image);
}

#[test]
fn the_digest_header_proves_nothing_and_breaks_nothing() {
    let image = Image::new(&[b"one"]);
    let right = image.digest().to_string();
    for headers in [
        vec![(
            "Docker-Content-Digest",
            "sha256:0000000000000000000000000000000000000000000000000000000000000000",
        )],
        vec![("Docker-Content-Digest", "md5:x")],
        vec![("Docker-Content-Digest", "../../etc/passwd")],
        vec![],
    ] {
        let (site, headers) = (image.site(), headers.clone());
        let server = Server::start(move |r, c| {
            if r.is_manifest() { c.reply(200, &headers, &site.0[r.bare()].1) } else { site.serve(r, c) }
        });
        let outcome = pull(&server).good(&image);
        assert_eq!(outcome.result.as_ref().unwrap().manifest.to_string(), right);
    }
}
