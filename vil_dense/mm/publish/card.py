"""Writes the model card of a published segmentor, in the form of the Hugging Face Hub."""

from collections.abc import Mapping
from typing import Any

import yaml

from vil_dense.mm.utils.heads import last_head

CARD = """---
{head}---

# {name}

{what}

## Results

{results}

## Use

```python
from vil_dense.mm import Segmentor
segmentor = Segmentor.load("FOLDER")  # or Segmentor.from_pretrained("OWNER/NAME")
segmentor.predict("picture.jpg").overlay().save("overlay.png")
```

`mask` of a prediction holds the ids of the data set's label files. The file runs no code when it is loaded.

## Classes

{classes}

## Licence

{licence}
"""


def model_card(content: Mapping[str, Any]) -> str:
    """Returns the text of a model card.

    Args:
        content: the description of a published model, see `published.CONTENT`.
    """
    about, metrics = content["about"], content["metrics"]
    head: dict[str, Any] = dict(library_name="vil_dense", pipeline_tag="image-segmentation", tags=["vision-lstm"])
    if about["licence"]:
        head["license"] = about["licence"]
    rows = [f"| {name} | {value:.2f} |" for name, value in metrics.items()]
    protocol = f"Validation: {about['protocol']}.\n\n" if about.get("protocol") else ""
    results = protocol + "\n".join(["| metric | value |", "|---|---|", *rows]) if rows else "None are stored."
    return CARD.format(
        head=yaml.safe_dump(head, sort_keys=True, allow_unicode=True),
        name=about["name"],
        what=_what(content),
        results=results,
        classes=", ".join(content["data"]["classes"]),
        licence=about["licence"] or "Not stated.",
    )


def _what(content: Mapping[str, Any]) -> str:
    """Returns sentences on network and training."""
    model, about = content["config"]["model"], content["about"]
    network = _network(model["backbone"])
    lines = [f"A semantic segmentor for images: {network} with {last_head(model['decode_head'])['type']}."]
    dataset = about.get("dataset")
    steps = about.get("step")
    if dataset or steps:
        trained = f"Trained on {dataset}" if dataset else "Trained"
        lines.append(f"{trained}{f' for {steps:,} steps' if steps else ''}.")
    count = about.get("parameters")
    if count:
        lines.append(f"It has {count:,} parameters and {len(content['data']['classes'])} classes.")
    lines.append(f"Written by vil_dense {content['version']}.")
    return " ".join(lines)


def _network(backbone: Mapping[str, Any]) -> str:
    """Returns the name of a backbone; its size where the config sets one, since the variant's does not hold then."""
    sizes = [f"{backbone[key]} {unit}" for key, unit in (("depth", "blocks"), ("dim", "channels")) if key in backbone]
    if sizes:
        return f"{backbone['type']} of {' and '.join(sizes)}"
    return f"{backbone['type']} {backbone.get('variant', '')}".strip()
