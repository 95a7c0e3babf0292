"""What the example site gets to be a whole one: PostgreSQL, Redis, uvicorn, a task of beat's, and three more revisions."""

from __future__ import annotations

from booted_host import REPOSITORY, commit

REQUIREMENTS = """\
h11==0.16.0
packaging==26.3
psycopg[binary]==3.3.9
redis==8.1.0
uvicorn==0.54.0
uvicorn-worker==0.4.0
"""
# beat fires at the begin of each period, and says which one: so a period without a firing, or with two, is seen
PERIOD_SECONDS = 5
PERIODS = f"""
import os
import time

from celery.schedules import schedule, schedstate

SECONDS = {PERIOD_SECONDS}


seen = [0]


def now():
    return int(time.time() // SECONDS)


def due():
    # the period in which it was found due: between that and the sending another one may begin
    return seen[0]


def release():
    return os.environ["BB_RELEASE"]


class EachPeriod(schedule):
    def __init__(self):
        super().__init__(run_every=SECONDS)

    def is_due(self, last_run_at):
        is_due = int(last_run_at.timestamp() // SECONDS) < now()
        if is_due:
            seen[0] = now()
        return schedstate(is_due, SECONDS - time.time() % SECONDS)

    def __reduce__(self):
        return EachPeriod, ()
"""
SETTINGS = """
from celery.beat import BeatLazyFunc

from brackets import periods

CELERY_BEAT_SCHEDULE = {
    "tick": {
        "task": "brackets.tasks.tick",
        "schedule": periods.EachPeriod(),
        "args": [BeatLazyFunc(periods.due), BeatLazyFunc(periods.release)],
    }
}
"""
TASKS = '''

@shared_task
def tick(period, sent_by):
    """What beat sends: no two rows may be of one period."""
    Tick.objects.create(period=period, sent_by=sent_by, done_by=os.environ["BB_RELEASE"])
'''
TICK = """

class Tick(models.Model):
    period = models.BigIntegerField()
    sent_by = models.CharField(max_length=40)
    done_by = models.CharField(max_length=40)
"""
VIEWS = '''

def answer(request, **more):
    facts = {"release": RELEASE, "interface": "asgi" if hasattr(request, "scope") else "wsgi", **more}
    return JsonResponse(facts, headers={"X-Release": RELEASE})


async def slow(request):
    """A request that is under way for a while."""
    await asyncio.sleep(0.4)
    return answer(request)


@csrf_exempt
@require_POST
def add(request):
    """Stores a snippet without looking at it; that is left to the worker."""
    (snippet,) = Snippet.objects.bulk_create([Snippet(text=request.body.decode(), balanced=False)])
    recheck.delay(snippet.pk)
    return answer(request, snippet=snippet.pk)
'''
ROUTES = '    path("slow/", views.slow),\n    path("add/", views.add),\n'
TICK_MIGRATION = """
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("brackets", "0002_snippet_balanced_created")]
    operations = [
        migrations.CreateModel(
            name="Tick",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("period", models.BigIntegerField()),
                ("sent_by", models.CharField(max_length=40)),
                ("done_by", models.CharField(max_length=40)),
            ],
        )
    ]
"""
LANGUAGE = '    language = models.CharField(blank=True, db_default="", default="", max_length=40)\n'
LANGUAGE_MIGRATION = """
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("brackets", "0003_tick")]
    operations = [
        migrations.AddField(
            "snippet", "language", models.CharField(blank=True, db_default="", default="", max_length=40)
        )
    ]
"""
# bad only where it serves: what is tried before the switch finds nothing
BAD_WORKER = """
from celery.signals import worker_init


@worker_init.connect
def end(**_):
    raise SystemExit("the worker cannot go on")
"""
BAD_HEALTH = """

well = health


def health(request):
    import sys

    if "uvicorn" not in sys.modules:
        return well(request)
    print("the health view is unwell", file=sys.stderr, flush=True)
    return JsonResponse({}, status=500, headers={"X-Release": RELEASE})
"""


def replace(path: str, old: str, new: str) -> None:
    """Change a file of the repository; `old` has to be there once, "" is its end."""
    file = REPOSITORY / path
    text = file.read_text() if file.exists() else ""
    assert not old or text.count(old) == 1, (path, old)
    file.write_text(text.replace(old, new) if old else text + new)


def first_revision() -> str:
    """The site as it stands in production, with what the test looks at."""
    replace("requirements.txt", "", REQUIREMENTS)
    replace("brackets/periods.py", "", PERIODS)
    replace("broken_brackets/settings.py", "", SETTINGS)
    replace("brackets/models.py", "", TICK)
    replace("brackets/migrations/0003_tick.py", "", TICK_MIGRATION)
    replace("brackets/tasks.py", "from celery", "import os\n\nfrom celery")
    replace("brackets/tasks.py", "import Snippet", "import Snippet, Tick")
    replace("brackets/tasks.py", "", TASKS)
    replace("brackets/views.py", "import os\n", "import asyncio\nimport os\n")
    replace("brackets/views.py", "import require_safe\n",
            "import require_POST, require_safe\nfrom django.views.decorators.csrf import csrf_exempt\n")  # fmt: skip
    replace("brackets/views.py", "import Snippet\n", "import Snippet\nfrom .tasks import recheck\n")
    replace("brackets/views.py", "", VIEWS)
    replace("broken_brackets/urls.py", "]", f"{ROUTES}]")
    replace("broken_brackets/__init__.py", "", "from .celery import app as celery_app\n")
    return commit("the first revision for production")


def second_revision() -> str:
    """A migration that the code before it can live with, and another style sheet."""
    replace("brackets/models.py", "    balanced = models.BooleanField(default=False)\n",
            f"    balanced = models.BooleanField(default=False)\n{LANGUAGE}")  # fmt: skip
    replace("brackets/migrations/0004_snippet_language.py", "", LANGUAGE_MIGRATION)
    replace("brackets/static/brackets/site.css", "", "\n/* second */\n")
    return commit("snippets have a language")


def bad_revision() -> str:
    """A worker that ends, and a health view that is unwell under uvicorn."""
    replace("broken_brackets/celery.py", "", BAD_WORKER)
    replace("brackets/views.py", "", BAD_HEALTH)
    return commit("as bad as can be")


def good_again() -> str:
    """The bad lines are out, and the style sheet is a third one."""
    replace("broken_brackets/celery.py", BAD_WORKER, "")
    replace("brackets/views.py", BAD_HEALTH, "")
    replace("brackets/static/brackets/site.css", "/* second */", "/* third */")
    return commit("and well again")
