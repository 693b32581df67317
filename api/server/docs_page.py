"""The page `/docs`: Swagger UI, its files served by this process, so that it works where no network is."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import TYPE_CHECKING

from fastapi.openapi.docs import get_swagger_ui_html
from starlette.staticfiles import StaticFiles

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.responses import HTMLResponse

_FILES = "/docs/static"


def install(app: FastAPI) -> None:
    """Serve the page; the application must have been made with `docs_url=None`."""

    async def show_docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="ebs: HTTP API",
            swagger_js_url=f"{_FILES}/swagger-ui-bundle.js",
            swagger_css_url=f"{_FILES}/swagger-ui.css",
            swagger_favicon_url=f"{_FILES}/favicon-32x32.png",
        )

    # Only the files of that package are used, which are those of Swagger UI itself.
    with as_file(files("fastapi_swagger") / "resources") as directory:
        app.mount(_FILES, StaticFiles(directory=directory), name="docs-static")
    app.add_api_route("/docs", show_docs, include_in_schema=False)
