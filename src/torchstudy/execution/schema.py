"""The ledger's tables: what is kept of studies, trials, trainings and epochs."""

from sqlalchemy import Column, Float, ForeignKeyConstraint, Integer, MetaData, String, Table, Text

FORMAT = 5  # grows with every change to the tables: upgrading.py

metadata = MetaData()

studies = Table(
    "studies",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("declaration", Text, nullable=False),  # JSON: what must not change
    Column("summary", Text, nullable=False),  # JSON: study.json
    Column("state", String(20), nullable=False),  # running | interrupted | finished
    Column("owner", Text, nullable=False),  # JSON, empty when nobody holds the study
    Column("claimed", String(40), nullable=False),
    Column("seen", String(40), nullable=False, server_default=""),  # its holder's last sign of life
    Column("error", Text, nullable=False, server_default=""),  # that its last run stopped on
)

trials = Table(
    "trials",
    metadata,
    Column("study", String(200), primary_key=True),
    Column("family", String(200), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("config", Text, nullable=False),  # JSON
    Column("origin", String(20), nullable=False),
    Column("proposed", String(40), nullable=False),
    Column("decisions", Text, nullable=False, server_default="[]"),  # JSON of records.Decision
)

trainings = Table(
    "trainings",
    metadata,
    Column("study", String(200), primary_key=True),
    Column("family", String(200), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("seed", Integer, primary_key=True, autoincrement=False),
    Column("purpose", String(20), nullable=False),
    Column("status", String(20), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("epochs", Integer, nullable=False),
    Column("best_epoch", Integer, nullable=False),
    Column("parameters", Integer, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("started", String(40), nullable=False),
    Column("finished", String(40), nullable=False),
    Column("worker", String(200), nullable=False),
    Column("metrics", Text, nullable=False),  # JSON
    Column("tested", String(40), nullable=False),  # when the test split was last read, or empty
    Column("losses", Integer, nullable=False, server_default="0"),  # workers that died or hung
    Column("environment", Text, nullable=False, server_default=""),  # ids joined with "+"
    Column("readings", Integer, nullable=False, server_default="0"),  # of the test split
    Column("tested_by", String(300), nullable=False, server_default=""),  # the process that did
    Column("earlier", Text, nullable=False, server_default="[]"),  # JSON of records.Attempt
    ForeignKeyConstraint(
        ["study", "family", "number"], ["trials.study", "trials.family", "trials.number"]
    ),
)

epochs = Table(
    "epochs",
    metadata,
    Column("study", String(200), primary_key=True),
    Column("family", String(200), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("seed", Integer, primary_key=True, autoincrement=False),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("attempt", Integer, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("row", Text, nullable=False),  # JSON of records.Epoch
)

OLDEST = (studies, trials, trainings, epochs)  # the tables that every format has

formats = Table(
    "format", metadata, Column("version", Integer, primary_key=True, autoincrement=False)
)
