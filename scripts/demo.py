"""Two real deploys of a real site, and the way back: what scripts/demo shows."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from example_site import Site, running_site


def say(text: str) -> None:
    print(f"\n{text}", flush=True)


def bb_release(site: Site, *words: str) -> None:
    say(f"$ bb-release {' '.join(words)}")
    done = site.run(*words, show=True)
    if done.returncode != 0:
        sys.exit(f"bb-release {words[0]} ended with exit code {done.returncode}")


def answer(site: Site) -> None:
    facts = site.answering()
    say(f"$ curl http://127.0.0.1/health/\n{facts}")


def main() -> None:
    with running_site(worker=True) as site:
        print("A site, its repository, supervisord: all in a folder that is removed at the end.")
        bb_release(site, "deploy")
        answer(site)
        first = site.current()
        site.second_revision()
        say("A second revision: a migration, a changed requirement, a changed static file.")
        bb_release(site, "deploy", "-m", "snippets get a language")
        answer(site)
        bb_release(site, "switch", first)
        answer(site)
        bb_release(site, "list")
        bb_release(site, "status")
        if "--keep" in sys.argv:
            say(f"Running until ctrl-c: {' '.join(site.command('status'))}\n  as user {os.geteuid() or 'nobody'}")
            try:
                while True:
                    time.sleep(60)
            except KeyboardInterrupt:
                pass
    say("Done; nothing is left running.")


if __name__ == "__main__":
    main()
