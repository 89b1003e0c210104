"""Validates R4 resources with fhirkit: one JSON resource a line in, one JSON list of problems a line out."""

import json
import sys

import fhirkit

for line in sys.stdin:
    problems = [f"{one.path}: {one.message}" for one in fhirkit.validate(line) if one.severity == "error"]
    print(json.dumps(problems), flush=True)
