"""A template and its two instances, under the names that a manager and a person have for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bb_release.actions import instances
from bb_release.errors import NoSuchRelease
from bb_release.model.app import App, Unit


@pytest.mark.parametrize("template", ["shop@.service", "shop@"])
def test_an_instance_is_typed_as_the_configuration_names_its_template(template: str) -> None:
    units = (Unit("shop-celery@.service", handover="blue-green"), Unit(template, handover="blue-green"), Unit("beat"))
    app = App("shop", "git@git.example.org:a/b.git", Path("/srv/shop"), units=units)
    for unit in instances.every(app):
        wanted = instances.configured_name(app, unit)
        assert {wanted} == {instances.meant(app, word) for word in (unit.name, wanted)}
    assert template == instances.meant(app, "shop@green")
    with pytest.raises(NoSuchRelease) as caught:
        instances.meant(app, "shop@pink.service")
    assert f"one of: shop-celery@.service, {template}, beat" == caught.value.remedy
    assert {
        "shop-celery@blue.service": "shop-celery@.service", "shop-celery@green.service": "shop-celery@.service",
        "shop@blue.service": template, "shop@green.service": template, "beat": "beat",
    } == {unit.name: instances.configured_name(app, unit) for unit in instances.every(app)}  # fmt: skip
