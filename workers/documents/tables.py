"""Tables as Markdown: CSV, and the sheets of Excel files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from workers.documents.refusals import Unreadable
from workers.documents.texts import plain_text

_MOST_CELLS = 2_000_000


def csv_table(content: bytes) -> str:
    rows = [[_line(cell) for cell in row] for row in csv.reader(io.StringIO(plain_text(content)))]
    return "".join(f"{line}\n" for line in _markdown(rows))


def xlsx_tables(content: bytes) -> str:
    """Formulas as the values that were last computed."""
    # Half a second of import, which other documents need not wait for.
    from openpyxl import load_workbook  # noqa: PLC0415

    book = load_workbook(io.BytesIO(content), read_only=True, data_only=True)
    sheets = []
    for sheet in book.worksheets:
        sheet.reset_dimensions()  # a file may lie about them
        sheets.append(sheet.iter_rows(values_only=True))
    return _sheets(sheets)


def xls_tables(content: bytes) -> str:
    import xlrd  # noqa: PLC0415 - as above

    with xlrd.open_workbook(file_contents=content, on_demand=True) as book:
        sheets = (book.sheet_by_index(index) for index in range(book.nsheets))
        return _sheets((_xls_row(sheet, row, book.datemode) for row in range(sheet.nrows)) for sheet in sheets)


def _xls_row(sheet: Any, row: int, datemode: int) -> list[Any]:
    import xlrd  # noqa: PLC0415 - as above

    def value(cell: Any) -> Any:
        if cell.ctype == xlrd.XL_CELL_DATE:
            return xlrd.xldate_as_datetime(cell.value, datemode)
        return bool(cell.value) if cell.ctype == xlrd.XL_CELL_BOOLEAN else cell.value

    return [value(cell) for cell in sheet.row(row)]


def _sheets(sheets: Iterable[Iterable[Sequence[Any]]]) -> str:
    """Each sheet's table and an empty line; rows without a value are left out."""
    left = _MOST_CELLS
    told = []
    for sheet in sheets:
        rows = []
        for row in sheet:
            left -= len(row) + 1
            if left < 0:
                raise Unreadable(f"it has more than {_MOST_CELLS} cells")
            cells = [_line(_shown(value)) for value in row]
            if any(cells):
                rows.append(cells)
        if rows:
            told.append("\n".join(_markdown(rows)) + "\n\n")
    return "".join(told)


def _shown(value: object) -> str:
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _line(cell: str) -> str:
    return cell.replace("\r", "").replace("\n", " ")


def _markdown(rows: list[list[str]]) -> Iterator[str]:
    """The first row names the columns; dashes as long as the names follow it."""
    for number, row in enumerate(rows):
        yield f"| {' | '.join(row)} |"
        if number == 0:
            yield f"| {' | '.join('-' * len(name) for name in row)} |"
