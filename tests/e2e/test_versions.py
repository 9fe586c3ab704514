"""An erasure also takes what stood at its path before: versions that saving replaced, what was removed, what was renamed
away and removed elsewhere.  Older backups have all of it, under keys of its own."""
import json
import os

import pytest
from harness import NOT_FOUND, REFUSED
from steps import Proof
from test_subject import JANE, JOHN, label


class Story:
    """Files by what stands in them; each is seen in the store while it is there, as a backup would have it."""

    def __init__(self, v):
        self.v, self.proof, self.files = v, Proof(v), {}
        self.m = v.mount(v.alice)

    def do(self, command, made=None):
        """`made`: what the one new file is called here."""
        before = set(self.proof.note())
        self.m.sh(command)
        new = [k for k in self.proof.note() if k not in before]
        assert len(new) == (made is not None), (command, len(new))
        if made:
            self.files[made] = new[0]

    def again(self):
        self.m = self.v.mount(self.v.alice)

    def alive(self):
        alive = self.proof.alive()
        return {name for name, key in self.files.items() if alive[key]}

    def shred(self, path, **kw):
        r = self.v.json("shred", "acme", path, "--reason", "R", "--yes", **kw)
        with open(os.path.join(self.v.dir, r["certificate"])) as f:
            certificate = json.load(f)["certificate"]["what"]
        assert all(certificate[k] == r["counts"][k] for k in ("versions", "versions_unknown", "versions_elsewhere"))
        return r


@pytest.fixture
def story(acme):
    return Story(acme)


def test_versions_that_saving_replaced(story):
    s = story
    s.do("echo 1 > doc", "1")
    s.do("echo 2 > .doc.tmp", "2")  # as LibreOffice, rsync, sed -i
    s.do("mv .doc.tmp doc && echo 3 > .doc.tmp", "3")
    s.do("mv .doc.tmp doc && mv doc doc~ && echo 4 > doc", "4")  # as vim
    s.do("rm doc~ && echo 5 > next", "5")  # removed and written anew
    s.do("rm doc && mv next doc")
    s.do("echo o > .doc.tmp", "other")  # the same name for the time being, another document
    s.do("mv .doc.tmp other && echo p > .doc.tmp", "other2")
    s.do("mv .doc.tmp other")
    r = s.v.coffer("shred", "acme", "doc", "--reason", "R", input=b"no\n", check=REFUSED)
    assert "4 former versions" in r.err
    r = s.shred("doc")
    assert r["keys"] == 5 and r["counts"]["versions"] == 4 and r["counts"]["versions_unknown"] == 0, r
    assert s.alive() == {"other", "other2"}
    s.again()
    assert s.m.sh("cat other").out == "p\n"
    s.m.unmount()
    # What is erased is not counted again; what is left of the other one goes with it.
    r = s.shred("other")
    assert r["counts"]["versions"] == 1 and s.alive() == set()


def test_where_the_document_was_before(story):
    """Saved at its old path, then moved with its directory; a tree takes all that was in it, and names, too."""
    s = story
    s.do("mkdir a b && echo 1 > a/doc", "1")
    s.do("echo u > a/unrelated", "u")
    s.do("echo 2 > t", "2")
    s.do("mv t a/doc && rm a/unrelated && mv a/doc b/doc && echo 3 > a/doc", "3")
    s.do("rm a/doc && mkdir b/sub && echo s > b/sub/s", "s")
    s.do("ln -s secret b/l; rm -r b/sub b/l; mv b c")
    s.do("echo k > c/kept; mv c/kept kept", "kept")
    r = s.shred("c/doc")
    assert r["counts"]["versions"] == 1 and s.alive() == {"u", "3", "s", "kept"}, s.alive()
    s.again()
    r = s.shred("c")
    # s, its directory, the symlink
    assert r["counts"]["versions"] == 3 and r["counts"]["versions_elsewhere"] == 1, r
    assert s.alive() == {"u", "3", "kept"}
    s.again()
    assert s.m.sh("cat kept").out == "k\n"


def test_what_is_not_there_any_more(story):
    s = story
    s.do("mkdir d && echo 1 > d/x", "x")
    s.do("echo y > d/y", "y")
    s.do("echo k > kept", "kept")
    s.do("rm -r d && mv kept was && mv was kept")
    s.v.coffer("shred", "acme", "never", "--reason", "R", "--yes", check=NOT_FOUND)
    s.v.coffer("shred", "acme", "was", "--reason", "R", "--yes", check=NOT_FOUND)
    hold = s.v.json("hold", "place", "acme", "--path", "kept", "--matter", "M", "--reason", "R")["hold"]
    s.v.coffer("shred", "acme", "d/x", "--reason", "R", "--yes", check=REFUSED)
    s.v.coffer("hold", "lift", str(hold), "--reason", "over")
    assert s.m.mounted() and s.alive() == {"x", "y", "kept"}
    r = s.shred("/d//x/")
    assert (r["keys"], r["counts"]["versions"]) == (1, 1) and s.alive() == {"y", "kept"}
    assert s.shred("d")["counts"]["versions"] == 2 and s.alive() == {"kept"}
    s.v.coffer("shred", "acme", "d", "--reason", "R", "--yes", check=NOT_FOUND)


def test_what_lives_keeps_its_key(story):
    """A hard link of what was removed, and what was renamed away: they are there, and open."""
    s = story
    s.do("echo 1 > doc; ln doc link; rm doc", "1")
    s.do("echo 2 > doc", "2")
    s.do("mv doc away; echo 3 > doc", "3")
    r = s.shred("doc")
    assert (r["keys"], r["counts"]["versions"], r["counts"]["versions_elsewhere"]) == (1, 0, 1), r
    assert s.alive() == {"1", "2"}
    s.again()
    assert s.m.sh("cat link away").out == "1\n2\n"


def test_a_subject(story):
    """Of each of his files; of his directory also what was removed from it, unless it has another's, too."""
    s = story
    s.do("mkdir jane both && echo 1 > f", "1")
    s.do("echo a > jane/a", "a")
    s.do("echo b > both/b", "b")
    s.do("echo g > both/gone", "g")
    for path in ("f", "jane", "both"):
        label(s.m, path, JANE)
    label(s.m, "both/b", JOHN)
    s.do("echo 2 > t", "2")
    s.do("mv t f && rm jane/a both/gone && echo c > jane/c", "c")
    r = s.v.json("subject", "shred", "acme", JANE, "--reason", "R", "--yes")
    assert r["counts"]["versions"] == 2, r
    assert s.alive() == {"b", "g"}
