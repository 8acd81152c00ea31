"""Amara: a retired teacher with silver hair, on her veranda on a clear morning."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from avatars.characters.figure import Figure
from avatars.characters.look import Look
from avatars.characters.stage import Pose
from avatars.characters.svg import Drawing, ellipse, fade, glow, gradient, placed, soft

SILVER, SILVER_LIGHT, SILVER_DARK = "#a9a6ad", "#ece9ea", "#5f5a66"

HAIR = (
    "M168 214C158 204 152 190 155 178C146 166 147 150 156 142C153 126 160 112 172 107C174 92 188 82 200 84"
    "C208 70 224 64 236 70C246 60 266 60 276 69C290 63 306 71 313 83C326 81 339 92 341 107C352 113 359 127 356 142"
    "C365 151 366 167 357 178C360 191 354 205 344 214C342 196 338 178 328 164C322 150 312 138 298 132"
    "C272 122 240 122 214 132C200 138 190 150 184 164C174 178 170 196 168 214Z"
)


@lru_cache(maxsize=16)
def curls(count: int, phase: int) -> str:
    """Small hooks spread over a ring about the head, by the golden angle."""
    hooks = []
    for index in range(count):
        angle = 2.399963 * (index + phase * 0.31)
        reach = 0.52 + 0.5 * ((index * 0.754877 + phase * 0.2) % 1.0)
        x, y = 256 + 104 * reach * np.cos(angle), 172 + 110 * reach * np.sin(angle)
        if y > 222:
            continue
        turn = angle * 1.7 + phase
        a, b = 4.2 * np.cos(turn), 4.2 * np.sin(turn)
        hooks.append(hook(x, y, a, b))
    return "".join(hooks)


@lru_cache(maxsize=16)
def fringe(count: int, phase: int) -> str:
    """Small hooks along the hairline."""
    hooks = []
    for index in range(count):
        angle = np.pi * (0.02 + 0.96 * (index + phase / 3) / count)
        inward = 1.0 + 0.035 * np.sin(index * 2.4 + phase)
        x, y = 256 - 82 * inward * np.cos(angle), 196 - 71 * inward * np.sin(angle) ** 0.75
        turn = index * 2.399963 + phase
        a, b = 3.6 * np.cos(turn), 3.6 * np.sin(turn)
        hooks.append(hook(x, y, a, b))
    return "".join(hooks)


def hook(x: float, y: float, a: float, b: float) -> str:
    """Half a curl about a point; (a, b) is its size and direction."""
    return f"M{x - a:.1f} {y - b:.1f}C{x - a - b:.1f} {y - b + a:.1f} {x + a - b:.1f} {y + b + a:.1f} {x + a:.1f} {y + b:.1f}"


class Amara(Figure):
    name = "amara"
    look = Look(
        light="#b97a52",
        skin="#9a5d3c",
        shade="#74412b",
        deep="#3f1d15",
        blush="#c2523f",
        lip="#8a3440",
        lip_light="#b35a60",
        iris="#2e1a10",
        iris_light="#6e4526",
        brow="#40343a",
        lash="#1c0f0c",
        lid="#6b3a2a",
        lash_wing=0.6,
        eye_wide=21,
        eye_up=12,
        brow_thick=5.5,
        brow_arch=6,
        lips=1.22,
        mouth_wide=29,
        smile=7.5,
        nose_wide=18.5,
        nose_y=258,
        folds=0.36,
        ears=True,
        jaw=(
            "M177 186C176 132 204 94 256 94C308 94 336 132 335 186C335 216 333 244 326 268C317 295 298 318 277 330"
            "C264 337 248 337 235 330C214 318 195 295 186 268C179 244 177 216 177 186Z"
        ),
    )

    def own_definitions(self) -> str:
        return "".join(
            (
                gradient("hair", (f"0 {SILVER_LIGHT}", f".5 {SILVER}", f"1 {SILVER_DARK}"), (0.15, 0, 0.85, 1)),
                gradient("dress", ("0 #a8487c", ".5 #7c2b5a", "1 #4c1639"), (0, 0, 0.7, 1)),
                glow("bead", ("0 #fff3cd", ".5 #e5b04f", "1 #93601c"), (0.35, 0.3), 0.75),
                glow("stone", ("0 #bff0e6", ".5 #3fa897", "1 #17584f"), (0.35, 0.3), 0.75),
            )
        )

    def scene(self) -> str:
        draw = Drawing()
        draw.raw(
            "<defs>"
            + gradient("wall", ("0 #e9e6f2", ".6 #cfcbe2", "1 #aaa3c4"), (0, 0, 0.25, 1))
            + gradient("sky", ("0 #bfe3f2", ".7 #e9f6f2", "1 #f7f6e4"))
            + gradient("pot", ("0 #e0906a", "1 #a8553a"), (0, 0, 1, 0.4))
            + fade("light", "#fffdf2", 0.95)
            + fade("vignette", "#3d3160", 0.5)
            + soft("b3", 3)
            + soft("b10", 9)
            + "</defs>"
        )
        draw.raw('<rect x="-500" y="-500" width="1512" height="1512" fill="url(#wall)"/>')
        draw.open(filter="b3")
        for x in (-340, 10, 360, 710):
            arch = f"M{x - 20} 470L{x - 20} 130C{x - 20} 40 {x + 50} -20 {x + 120} -20C{x + 190} -20 {x + 260} 40 {x + 260} 130L{x + 260} 470Z"
            inner = (
                f"M{x} 470L{x} 132C{x} 52 {x + 60} 0 {x + 120} 0C{x + 180} 0 {x + 240} 52 {x + 240} 132L{x + 240} 470Z"
            )
            draw.path(arch, "#f6f3fa")
            draw.path(inner, "@sky")
            draw.clip(inner)
            draw.path(ellipse(x + 40, 330, 120, 70), "#9cc7a2", opacity=0.8)
            draw.path(ellipse(x + 190, 310, 110, 90), "#7fb394", opacity=0.8)
            draw.path(ellipse(x + 110, 400, 200, 80), "#5f9a7e", opacity=0.8)
            for index in range(9):
                cx, cy = x + (index * 53) % 240, 270 + (index * 37) % 110
                draw.path(
                    ellipse(cx, cy, 7 + index % 4 * 2), ("#f3b6c6", "#fbe3a8", "#ffffff")[index % 3], opacity=0.75
                )
            draw.close()
        draw.raw('<rect x="-500" y="404" width="1512" height="14" fill="#f8f5fb"/>')
        for x in range(-490, 1010, 30):
            draw.raw(f'<rect x="{x}" y="418" width="10" height="200" fill="#ece7f3"/>')
        draw.close()
        draw.open(filter="b10")
        for x, scale in ((-60, 1.0), (640, 1.15), (-400, 0.9)):
            for index in range(9):
                angle = -2.8 + index * 0.31
                ex, ey = x + 130 * scale * np.cos(angle), 350 + 190 * scale * np.sin(angle)
                draw.line(
                    f"M{x} 360C{x} {300:.0f} {(x + ex) / 2:.0f} {ey:.0f} {ex:.0f} {ey:.0f}",
                    ("#3f8067", "#579a78", "#2f6b58")[index % 3],
                    18 * scale,
                )
            draw.path(f"M{x - 48} 352L{x + 48} 352L{x + 36} 470L{x - 36} 470Z", "@pot")
        draw.close()
        draw.path(ellipse(90, 40, 330), "@light", opacity=0.85)
        draw.path(ellipse(256, 580, 720, 220), "@vignette", opacity=0.85)
        return draw.svg()

    def behind(self, draw: Drawing, pose: Pose) -> None:
        back = "M256 66C196 64 150 104 150 164C150 200 166 232 186 252L326 252C346 232 362 200 362 164C362 104 316 64 256 66Z"
        place = pose.at(-14)
        shape = placed(back, place)
        draw.path(shape, "@hair")
        draw.clip(shape)
        draw.path(shape, SILVER_DARK, opacity=0.4)
        draw.line(placed(curls(150, 0), place), SILVER_DARK, 1.7, opacity=0.42)
        draw.close()

    def clothes(self, draw: Drawing, pose: Pose) -> None:
        body = pose.body()
        dress = (
            "M168 386C140 392 116 398 98 408C64 428 50 480 46 570L46 720L466 720L466 570C462 480 448 428 414 408"
            "C396 398 372 392 344 386C334 424 300 452 256 454C212 452 178 424 168 386Z"
        )
        draw.path(
            placed("M162 392C176 436 212 464 256 466C300 464 336 436 350 392L356 420L300 480L212 480L156 420Z", body),
            self.look.deep,
            opacity=0.3,
            filter="soft4",
        )
        shape = placed(dress, body)
        draw.path(shape, "@dress")
        draw.clip(shape)
        draw.path(placed("M98 408C74 440 88 500 88 720L20 720L20 430Z", body), "#e08bb8", opacity=0.35, filter="soft8")
        draw.path(
            placed("M414 408C440 440 420 500 420 720L500 720L490 430Z", body), "#260719", opacity=0.5, filter="soft8"
        )
        for side in (-1, 1):
            x = 256 + side * 110
            draw.path(
                placed(
                    f"M{x} 410C{x - side * 20} 450 {x - side * 40} 490 {x - side * 52} 540L{x - side * 44} 540C{x - side * 28} 490 {x - side * 6} 450 {x + side * 8} 412Z",
                    body,
                ),
                "#3d0f2c",
                opacity=0.5,
                filter="soft4",
            )
        draw.close()
        draw.line(placed("M168 386C178 424 212 452 256 454C300 452 334 424 344 386", body), "#e3a5c6", 2.2, opacity=0.7)
        for index in range(15):
            angle = np.pi * (0.11 + 0.78 * index / 14)
            x, y = 256 - 72 * np.cos(angle), 362 + 58 * np.sin(angle)
            radius = 5.0 + 2.4 * np.sin(angle)
            draw.path(placed(ellipse(x + 1, y + 4, radius), body), self.look.deep, opacity=0.3, filter="soft2")
            draw.path(placed(ellipse(x, y, radius), body), "@stone" if index % 3 == 1 else "@bead")

    def hairline(self, draw: Drawing, pose: Pose) -> None:
        shadow = "M164 236C176 190 184 160 214 138C240 128 272 128 298 138C328 160 336 190 348 236L352 80L160 80Z"
        draw.path(placed(shadow, pose.face()), self.look.deep, opacity=0.5, filter="soft4")

    def hair(self, draw: Drawing, pose: Pose) -> None:
        place = pose.hair(8)
        shape = placed(HAIR, place)
        edge = placed(
            "M171 206C176 184 182 170 190 158C200 142 220 130 256 128C292 130 312 142 322 158C330 170 336 184 341 206",
            place,
        )
        draw.line(edge, SILVER_DARK, 9, opacity=0.6, filter="soft2")
        draw.path(shape, "@hair")
        draw.clip(shape)
        draw.path(
            placed(
                "M150 226C160 180 180 150 214 136C240 126 272 126 298 136C332 150 352 180 362 226L340 150C310 110 202 110 172 150Z",
                place,
            ),
            SILVER_DARK,
            opacity=0.55,
            filter="soft4",
        )
        draw.line(placed(curls(230, 0), place), SILVER_DARK, 1.7, opacity=0.42)
        draw.line(placed(curls(200, 3), place), "#ffffff", 1.5, opacity=0.5)
        draw.close()
        # Single curls break the line of the hair on the forehead.
        draw.line(placed(fringe(44, 0), place), SILVER_DARK, 1.9, opacity=0.7)
        draw.line(placed(fringe(44, 1), place), SILVER, 2.3)
        draw.line(placed(fringe(40, 2), place), SILVER_LIGHT, 1.6, opacity=0.55)

    def before(self, draw: Drawing, pose: Pose) -> None:
        for side in (-1, 1):
            x = 256 + side * 85
            place = pose.at(4)
            draw.path(placed(ellipse(x, 241, 5.2), place), "@bead")
            draw.path(placed(ellipse(x, 258, 9.5, 12), place), "@stone")
            draw.line(placed(ellipse(x, 258, 9.5, 12), place), "#c99643", 1.6)
