"""The files of the page, with headers that keep other sites and old versions out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

PAGE = Path(__file__).parent / "page"
HEADERS = {
    # A browser asks each time whether a file has changed: an old module beside a new one does not work.
    "Cache-Control": "no-cache",
    # The rest of the policy stands in index.html; this part works only as a header.
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class _Files(StaticFiles):
    def file_response(self, *arguments: Any, **options: Any) -> Response:
        response = super().file_response(*arguments, **options)
        response.headers.update(HEADERS)
        return response


def add_page(application: FastAPI) -> None:
    """Serve the page at `/`, and its files below `/page`. Both are open to everybody."""

    @application.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html", headers=HEADERS)

    application.mount("/page", _Files(directory=os.fspath(PAGE)), name="page")
