"""A small app with every kind of relation between its models, for the tests of recovered rows.

It is written beside a host's settings; its tables come from ``migrate --run-syncdb``.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

SETTINGS = "INSTALLED_APPS = [*INSTALLED_APPS, 'zoo']"

_MODELS = """
    import uuid
    from pathlib import Path
    from django.db import models
    from django.db.models.signals import post_save
    from django.dispatch import receiver


    class Species(models.Model):
        code = models.CharField(max_length=20, unique=True)
        parent = models.ForeignKey("self", models.PROTECT, null=True, related_name="children")


    class Keeper(models.Model):
        name = models.CharField(max_length=100)
        favourite = models.ForeignKey("Animal", models.SET_NULL, null=True, related_name="+")


    class Tag(models.Model):
        name = models.CharField(max_length=20, unique=True)


    class Animal(models.Model):
        name = models.CharField(max_length=100)
        species = models.ForeignKey(Species, models.PROTECT)
        keeper = models.ForeignKey(Keeper, models.PROTECT, null=True)
        weight = models.DecimalField(max_digits=12, decimal_places=4)
        size = models.FloatField(null=True)
        data = models.JSONField(default=dict)
        photo = models.BinaryField(null=True)
        born = models.DateField(null=True)
        seen = models.DateTimeField(null=True)
        secret = models.UUIDField(default=uuid.uuid4, unique=True)
        twice = models.GeneratedField(
            expression=models.F("size") * 2, output_field=models.FloatField(), db_persist=True
        )
        tags = models.ManyToManyField(Tag)


    class Elephant(Animal):
        tusks = models.IntegerField()


    class Veteran(Elephant):
        class Meta:
            proxy = True


    class Visit(models.Model):
        animal = models.ForeignKey(Animal, models.CASCADE, related_name="visits")
        note = models.TextField()


    class Log(models.Model):
        text = models.TextField()


    class Report(models.Model):
        class Meta:
            managed = False
            db_table = "zoo_report"


    @receiver(post_save, sender=Visit)
    def hear(sender, instance, created, **_):
        with open(Path(__file__).parents[1] / "heard", "a") as file:
            file.write(f"{sender._meta.label} {instance.pk} {created}\\n")
"""

# Run through `manage.py shell`: two families of animals, a circle of keys, values that are easily broken.
FILL = """
import datetime, decimal, uuid
from zoo.models import *
mammals = Species.objects.create(code="mammals")
trunks = Species.objects.create(code="trunks", parent=mammals)
keeper = Keeper.objects.create(name="Zoë")
tags = [Tag.objects.create(name=name) for name in ("grey", "large", "loud")]
dumbo = Elephant.objects.create(
    name="Dümbö 'the \\\\ \\"small\\"; one' \\u2603\\n\\ttab %s {}", species=trunks, keeper=keeper, tusks=2,
    weight=decimal.Decimal("12345678.9012"), size=0.1, photo=bytes(range(256)),
    data={"a": [1, None, "ü", {"b": 1.5}], "": "\\u2028"}, born=datetime.date(1999, 12, 31),
    seen=datetime.datetime(2026, 1, 5, 12, 0, 0, 123456, tzinfo=datetime.timezone.utc),
)
dumbo.tags.set(tags)
keeper.favourite = dumbo
keeper.save()
plain = Animal.objects.create(name="", species=mammals, weight=0)
plain.tags.set(tags[:1])
for animal in (dumbo, plain):
    Visit.objects.create(animal=animal, note="\\r\\n")
"""


def write_zoo(folder: Path) -> None:
    """Write the app into a folder that is on the host's path."""
    app = folder / "zoo"
    app.mkdir(parents=True)
    (app / "__init__.py").touch()
    (app / "models.py").write_text(textwrap.dedent(_MODELS), encoding="utf-8")
