"""Files of a folder, named by the rest of an address."""

from __future__ import annotations

import errno
from pathlib import Path

from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.views.static import serve


def send_file(request: HttpRequest, path: str, folder: Path) -> HttpResponse | FileResponse:
    """Raises Http404 for what there is not, and for names that no disk takes."""
    try:
        return serve(request, path, document_root=str(folder))
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise Http404("There is no such file.") from error
        raise
